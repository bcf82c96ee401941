"""Forwards in which calls of a function are replaced: what ``functional=True`` installs.

A module that calls, say, ``F.relu`` becomes an instance of a subclass of its class, with the same name, whose ``forward``
is a method of the same signature: while it runs, a TorchFunctionMode sends each such call to a child of the module. So
everything that asks for a forward finds one, on the instance as on the class: ``inspect.signature``, torch.fx,
torch.export, trainers, and what is put around ``module.forward`` later.

Everything that runs inside is in the mode's reach. A module whose calls the user skips gets such a forward too, without
replacements; an activation that computes with relu runs in ``Passing``, and keeps its exact class.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import torch.fx
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from undying._torch import show_to_compile
from undying.activations.known import TYPE_OF, functional_forms, is_inplace, is_torchs, targets

CALLS = "_undying_calls"
"""In a module's ``__dict__``: kind -> what becomes of its calls. Empty: none is replaced, by nobody."""
FORWARDS = "_undying_forwards"
"""In a module's ``__dict__``: the forwards that were on the instance when calls were replaced, the last one innermost."""


class _Level(threading.local):
    """How many passing forwards are running. A replacement acts only at the level at which it was entered."""

    def __init__(self) -> None:
        self.value = 0  # in each thread, before torch.compile looks whether it is there


_level = _Level()


def _apart(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call it out of the reach of every replacement around."""
    _level.value += 1
    try:
        return function(*args, **kwargs)
    finally:
        _level.value -= 1


class Call:
    """What becomes of the calls of one kind of function in a forward.

    Args:
        kind: name of the activation type whose functional forms these are.
        child: name of the child that takes their place; None: they stay what they are.
        hidden: one of them that torch.compile does not show to modes of itself, as the user knows it; or None.
        method: one of them that torch.fx does not show to modes, such as ``Tensor.relu``; or None.
        in_functions: whether some run inside of an autograd Function. These stay what they are.
    """

    def __init__(
        self,
        kind: str,
        child: str | None,
        hidden: str | None = None,
        method: str | None = None,
        in_functions: bool = False,
    ) -> None:
        self.kind, self.child, self.hidden, self.method, self.in_functions = kind, child, hidden, method, in_functions
        self.compilable = hidden is None or _shown_to_compile(kind)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.kind not in targets():
            raise RuntimeError(
                f"calls of {self.kind}, an activation that was registered, are replaced in this network; "
                "call undying.register_activation with it in this process too, before the network is loaded"
            )
        self.compilable = self.hidden is None or _shown_to_compile(self.kind)  # in this process


def _shown_to_compile(kind: str) -> bool:
    """Have torch.compile show the functional forms of this type to modes; it looks into what is not of torch instead."""
    forms = functional_forms(targets()[kind])
    return all(map(is_torchs, forms)) and show_to_compile(forms)


# ---------------------------------------------------------------------------------------------------------------------
# Classes and methods


class _Rerouted:
    """First base of the classes that ``rerouted`` makes."""

    def __init_subclass__(cls) -> None:
        """For the network it is no new class: nothing to register."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        # copy.deepcopy comes here too. Only the plain class is found by its name.
        function, arguments, *rest = tuple(super().__reduce_ex__(protocol))
        plain = tuple(plain_type(self) if argument is type(self) else argument for argument in arguments)
        return (_rebuilt, (function, plain), *rest)

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            f"torch.jit.script compiles the source of {type(self).__name__}.forward, in which undying.convert_ replaced "
            "calls: script the network after undying.revert_, or trace it"
        )


def _rebuilt(function: Callable[..., nn.Module], arguments: tuple[Any, ...]) -> nn.Module:
    module = function(*arguments)
    module.__class__ = rerouted(type(module))
    return module


def plain_type(module: Any) -> type[nn.Module]:
    """The module's class as the user knows it."""
    cls: type[nn.Module] = type(module)
    return cls.__bases__[1] if cls.__bases__[0] is _Rerouted else cls


def is_built_upon(module: nn.Module) -> bool:
    """Whether somebody made a class from the one that ``rerouted`` gave, as a parametrization does."""
    return isinstance(module, _Rerouted) and type(module).__bases__[0] is not _Rerouted


def rerouted(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass whose forward reads ``CALLS``; one for each class."""
    for known in cls.__subclasses__():
        if known.__bases__ == (_Rerouted, cls):
            return known

    def run(*args: Any, **kwargs: Any) -> Any:
        return _run(cls.forward, args[0], args, kwargs)

    members = {
        "forward": _method(cls.forward, run),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    return types.new_class(cls.__name__, (_Rerouted, cls), exec_body=lambda namespace: namespace.update(members))


def around(module: nn.Module) -> types.MethodType:
    """A forward around the last of the module's ``FORWARDS``."""
    forward = vars(module)[FORWARDS][-1]
    index = len(vars(module)[FORWARDS]) - 1

    def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Looked up, so that a copy of the module runs its own. Undone, it is not there: something still calls this.
        held = vars(module).get(FORWARDS, [])
        return _run(held[index] if index < len(held) else forward, module, args, kwargs)

    return types.MethodType(_method(getattr(forward, "__func__", None) or _with_self(forward), run), module)


def _with_self(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(_: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    method.__wrapped__ = function  # type: ignore[attr-defined]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(function)
    method.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]
    return method


def _method(function: Callable[..., Any], run: Callable[..., Any]) -> types.FunctionType:
    """A function with the signature, the code's arguments and the attributes of ``function`` that calls ``run``."""
    # What a decorator made takes anything and may ask how it was given: there all is passed on as it came.
    exact = type(function) is types.FunctionType and not hasattr(function, "__wrapped__")
    takes, gives = _spelled(function) if exact else ("*args, **kwargs",) * 2
    namespace: dict[str, Any] = {}
    # The one way to a function with given arguments; names of parameters are all that goes in.
    exec(f"def make(_run):\n def forward({takes}):\n  return _run({gives})\n return forward", namespace)
    made = namespace["make"](run)
    context = getattr(function, "__globals__", {})  # in which its annotations are understood
    method = types.FunctionType(made.__code__, context, made.__name__, None, made.__closure__)
    functools.update_wrapper(method, function, updated=("__dict__",) if exact else ())
    # Who walks along __wrapped__ to take off an autocast would take off this as well.
    del method.__wrapped__  # type: ignore[attr-defined]
    if exact:
        method.__defaults__, method.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    else:
        method.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return method


def _spelled(function: Callable[..., Any]) -> tuple[str, str]:
    """The parameters of a function in its head, without defaults, and in a call that passes them on."""
    takes: list[str] = []
    gives: list[str] = []
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for parameter in inspect.signature(function, follow_wrapped=False).parameters.values():
        name = stars.get(parameter.kind, "") + parameter.name
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if not any(taken.startswith("*") for taken in takes):
                takes.append("*")
            gives.append(f"{name}={name}")
        else:
            gives.append(name)
        takes.append(name)
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            takes = [taken for taken in takes if taken != "/"] + ["/"]
    return ", ".join(takes), ", ".join(gives)


# ---------------------------------------------------------------------------------------------------------------------
# What replaces


def _run(forward: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    calls = vars(module).get(CALLS)
    if calls is None:
        if isinstance(module, _Rerouted):
            name = type(module).__name__
            raise RuntimeError(
                f"this {name} is a copy that {name} made in its own way, without its replaced calls: copy it before "
                "undying.convert_, and convert the copy"
            )
        return forward(*args, **kwargs)  # undone, and called by what was put around it before
    if not calls:
        return _apart(forward, *args, **kwargs)
    _refuse_what_hides(type(module).__name__, calls, args, kwargs)
    mode = _Replacement(module, calls)
    with mode:
        return forward(*args, **kwargs)


def _refuse_what_hides(name: str, calls: dict[str, Call], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if torch.compiler.is_compiling():
        for call in calls.values():
            if not call.compilable or call.in_functions:
                hidden = call.hidden if not call.compilable else "it inside of an autograd Function too"
                raise RuntimeError(
                    f"{name} calls {hidden}, which cannot be replaced under torch.compile; use the module {call.kind}, or "
                    "a function of torch whose name has no underscore at its end, there"
                )
    elif any(isinstance(arg, torch.fx.Proxy) for arg in (*args, *kwargs.values())):
        for call in calls.values():
            if call.method is not None:
                function = call.method.removeprefix("Tensor.")
                raise RuntimeError(
                    f"{name} calls {call.method}, which cannot be replaced while torch.fx traces: call torch.{function}(x) "
                    f"there, use the module {call.kind}, or trace what undying.revert_ gives back"
                )


class _Replacement(TorchFunctionMode):
    def __init__(self, owner: nn.Module, calls: dict[str, Call]) -> None:
        super().__init__()
        self.owner, self.calls, self.level = owner, calls, _level.value
        self.differentiated = torch.is_grad_enabled()

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is checkpoint and torch.compiler.is_compiling():
            return func(self._carried_into(args[0]), *args[1:], **kwargs)
        kind = TYPE_OF.get(func)
        if kind is None or kind.__name__ not in self.calls or _level.value != self.level:
            return func(*args, **kwargs)
        call: Call = self.calls[kind.__name__]
        x: Tensor = args[0] if args else kwargs["input"]
        whole = isinstance(x, Tensor) and not x.is_floating_point()
        if whole or call.child is None or (not torch.compiler.is_compiling() and self._in_function(func, call)):
            return _apart(func, *args, **kwargs)
        child: Any = self.owner._modules[call.child]
        return _apart(overwritten, x, child) if is_inplace(func, args, kwargs) else _apart(child, x)

    def _carried_into(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """While torch.compile traces what is checkpointed, no mode around it acts there."""

        def carried(*args: Any, **kwargs: Any) -> Any:
            with _Replacement(self.owner, self.calls):
                return function(*args, **kwargs)

        return carried

    def _in_function(self, func: Callable[..., Any], call: Call) -> bool:
        """Whether this call is made inside of an autograd Function of the network's own, whose backward is made for it.

        Raises:
            RuntimeError: it is made by what the backward pass will run again, where no mode replaces it.
        """
        if not self.differentiated:
            return call.in_functions and caller(self._is_mine) == "function"
        by = caller(self._is_mine)
        if by is None or (by == "function" and call.in_functions):
            return by is not None
        what = "torch.utils.checkpoint" if by == "checkpoint" else "an autograd Function"
        raise RuntimeError(
            f"{type(self.owner).__name__} calls {func.__name__} inside of {what}, which it did not when undying.convert_ ran "
            f"its example: run again in the backward pass, the call would not be replaced. Use the module {call.kind} there, "
            "or checkpoint whole modules; or undying.revert_ the network, switch this on, and convert_ it again"
        )

    def _is_mine(self, frame: types.FrameType) -> bool:
        return frame.f_code is _run.__code__ and frame.f_locals.get("mode") is self


def caller(ends: Callable[[types.FrameType], bool]) -> str | None:
    """What stands between the caller's caller and the first frame that ``ends`` it: "checkpoint", of torch.utils, or
    "function", an autograd Function whose forward takes its context; None for neither."""
    frame = sys._getframe(2)
    while frame is not None and not ends(frame):
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return "checkpoint"
        code = frame.f_code
        first = code.co_varnames[0] if code.co_name == "forward" and code.co_argcount else "self"
        if first != "self" and isinstance(frame.f_locals.get(first), FunctionCtx):
            return "function"
        frame = frame.f_back  # type: ignore[assignment]
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Forwards of activations, plain objects in the ``__dict__``


class Passing:
    """Forward of ``owner`` that no replacement around it reaches."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.original = vars(owner).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.original is not None:
            return _apart(self.original, *args, **kwargs)
        return _apart(type(self.owner).forward, self.owner, *args, **kwargs)


class AsFunction(Passing):
    """Forward of a module that stands where a function stood: it takes the function's arguments, and overwrites its
    input where the function did."""

    def __call__(self, input: Tensor, *args: Any, inplace: bool = False, **_: Any) -> Any:  # noqa: A002, the function's name
        if inplace or True in args:
            return overwritten(input, super().__call__)
        return super().__call__(input)


class Kept(functools.partial):  # type: ignore[type-arg]
    """A function held as an attribute that stays what it is, in the reach of a replacement."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _apart(super().__call__, *args, **kwargs)


def overwritten(x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """x, overwritten with its activation: whoever ignores the result must find it there."""
    # A copy, since the activation may keep what it is given for its backward pass.
    return x.copy_(activation(x.clone()))
