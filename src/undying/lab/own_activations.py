"""Activations and surrogates of the user's own, by import path: ``mine:MyAct:alpha=0.2``, ``sugar:mine:my_surrogate``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from undying._base import imports
from undying._base.errors import UndyingError
from undying.activations import known
from undying.activations.register import know
from undying.surrogates import SURROGATES, Custom, Surrogate, surrogate

_EXAMPLE = torch.linspace(-3, 3, 48).view(4, 12)


def path_of(spec: str) -> str:
    """The import path in the spec of an activation; empty where there is none. Nothing is imported.

    What has a name already keeps its meaning: an import path stands where a name is not known.

    >>> path_of("mine:MyAct:alpha=0.2"), path_of("sugar:my.file:bump"), path_of("sugar:nelu:a=0.1"), path_of("relu")
    ('mine:MyAct', 'my.file:bump', '', '')
    """
    name, *rest = spec.split(":")
    if name == "sugar":
        name, *rest = rest or [""]
        taken = name in SURROGATES
    else:
        taken = name in known.SPELLINGS
    if taken or not name or "=" in name or not rest or not rest[0] or "=" in rest[0]:
        return ""
    return f"{name}:{rest[0]}"


class FunctionActivation(nn.Module):
    """A function of the user's as a module, so that its calls are counted as one site each, whatever it calls itself."""

    def __init__(self, path: str, function: Callable[..., Tensor], arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.path, self.function, self.arguments = path, function, dict(arguments)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.arguments)

    def extra_repr(self) -> str:
        return ", ".join([self.path, *(f"{key}={value}" for key, value in self.arguments.items())])


def own_activation(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The module that an import path names: of a class of modules, or of a function of a tensor.

    From then on this process knows its type, as after :func:`undying.register_activation`.

    Raises:
        UndyingError: it is not there, is neither, or raises something.
        TypeError: it does not have these arguments.
    """
    found = _found(path, "activation")
    kind = known.type_of(found)
    if isinstance(found, type) and issubclass(found, nn.Module):
        kind = found
    if kind is not None:
        check_arguments(kind, arguments)
        inspect.signature(kind).bind(**arguments)
        module = imports.ask(path, "activation", partial(kind, **arguments))
        know(kind)
        return module  # type: ignore[no-any-return]
    if not callable(found) or isinstance(found, (type, nn.Module)):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise UndyingError(f"activation {path!r} is {what}, and neither a class of modules nor a function of a tensor")
    check_arguments(found, arguments)
    _bind(found, arguments)
    know(FunctionActivation)
    function = FunctionActivation(path, found, arguments)
    _check_shape(path, "activation", imports.ask(path, "activation", function, _EXAMPLE.clone()))
    return function


def own_surrogate(path: str, arguments: Mapping[str, Any]) -> tuple[Surrogate, set[str]]:
    """What SUGAR takes its derivative from, and which of the arguments went into it: a class or an object of
    :class:`undying.Surrogate`, or a function f~ of a tensor, whose derivative autograd takes.

    Raises:
        UndyingError: it is not there, is none of these, raises something, or has no derivative.
        TypeError: it does not have these arguments.
    """
    found = _found(path, "surrogate")
    used = set[str]()
    if isinstance(found, type) and issubclass(found, Surrogate):
        if "__dataclass_fields__" not in dir(found):
            raise UndyingError(f"surrogate {path!r} is no dataclass; put @dataclass(frozen=True) above it")
        check_arguments(found, arguments)
        if "name" not in dir(found):  # as register_surrogate would give it
            found.name = found.__name__.lower()
        used = {f.name for f in fields(found)} & arguments.keys()  # type: ignore[arg-type]
        chosen = found(**{key: arguments[key] for key in used})
    elif isinstance(found, Surrogate):
        chosen = found
    elif callable(found) and not isinstance(found, type):
        used = set(_parameters(found)) & arguments.keys()
        own = {key: arguments[key] for key in used}
        check_arguments(found, own)
        _bind(found, own)
        chosen = surrogate(partial(found, **own) if own else found)
    else:
        raise UndyingError(f"surrogate {path!r} is a {type(found).__name__}, no undying.Surrogate and no function")
    slope = imports.ask(path, "surrogate", _slope, chosen)
    _check_shape(path, "surrogate", slope)
    if not slope.any():
        raise UndyingError(
            f"surrogate {path!r} has the derivative 0 everywhere from -3 to 3; give the function whose derivative is to stand "
            "in for ReLU's, not that derivative"
        )
    return chosen, used


def source_sha256(spec: str) -> str:
    """Hash of the file that defines what the spec of an activation names by import path; empty where it names nothing so."""
    path = path_of(spec)
    return imports.source_sha256(path, "activation") if path else ""


def _found(path: str, what: str) -> Any:
    try:
        return imports.locate(path, what)
    except UndyingError as error:
        names = SURROGATES if what == "surrogate" else known.SPELLINGS
        raise UndyingError(
            f"{error} (an import path, since {path.split(':')[0]!r} is none of {', '.join(names)})"
        ) from (error.__cause__)


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises ValueError for a word where the default is a number, and the other way round: torch's own take anything, and
    fail when they are first called."""
    parameters = _parameters(function)
    for key, value in arguments.items():
        if key in parameters and {type(value), type(parameters[key].default)} in ({str, int}, {str, float}):
            raise ValueError(f"{key}={value} must be {'a number' if isinstance(value, str) else 'a word'}")


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """None of those that are written in C and do not tell."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}


def _bind(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises TypeError if it does not take a tensor and these; one that does not tell is tried later."""
    if _parameters(function):
        inspect.signature(function).bind(_EXAMPLE, **arguments)


def _slope(chosen: Surrogate) -> Tensor:
    """Its derivative: of a function as autograd takes it."""
    if not isinstance(chosen, Custom):
        return chosen.derivative(_EXAMPLE.clone())
    x = _EXAMPLE.clone().requires_grad_()
    y = chosen.value(x)
    return torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)


def _check_shape(path: str, what: str, y: Any) -> None:
    if not isinstance(y, Tensor) or y.shape != _EXAMPLE.shape or not y.is_floating_point():
        got = f"a {y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise UndyingError(f"{what} {path!r} gives {got} for float numbers of shape {tuple(_EXAMPLE.shape)}")
