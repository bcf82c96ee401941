"""Find what acts as a rectifier and is no activation that is known.

Units die in ``linear(x).clamp(min=0)`` as they do in a ReLU. What is found here is not counted, so it is named, with its layer
and line: such operations on tensors whose units are followed, activation modules that nobody registered, and parts that no
operation shows, such as scripted code and autograd Functions that compute outside of torch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from undying._base.module_stack import Hook, ModuleStack
from undying._torch import disable_torch_function, in_functorch
from undying.activations.known import OPERATORS, TYPE_OF, is_activation
from undying.units.rules import UnitAxes
from undying.units.tensors import ByTensor, tensors_in


@dataclass(frozen=True)
class Unrecognised:
    """A place that may act as an activation and is not counted."""

    layer: str
    """Qualified name of the module in whose forward it is; empty for the network itself."""
    what: str
    """The operation, or what kind of part."""
    line: str | None = None
    """``file:line`` of the user's code; None where there is none, as in an ``nn.Sequential`` of torch's modules."""

    def __str__(self) -> str:
        return self.what if self.line is None else f"{self.what}, {self.line}"


# ---------------------------------------------------------------------------------------------------------------------
# Operations


def _words(names: str) -> set[str]:
    return set(names.split())


_COMPARE = _words("eq ge greater greater_equal gt heaviside le less less_equal lt ne not_equal sgn sign signbit")
_CHOOSE = _words("addcmul imul index_put masked_fill masked_scatter mul multiply rmul setitem where")
_BOUND = _words("clamp clamp_max clamp_min clip hardshrink softshrink threshold")
_LARGER = _words("fmax fmin max maximum min minimum")
_ADD = _words("add iadd radd sub")
_WEIGH = _words("addmm bmm conv1d conv2d conv3d linear matmul mm")
_FUSED = _words("addmm_activation transformer_encoder_layer_fwd")
_LEAKING = _words("prelu rrelu")
_BEND = _words("abs arctan atan cos erf exp expm1 log log1p pow rsqrt sin sqrt square")
_ELEMENTWISE = _COMPARE | _CHOOSE | _BOUND | _ADD | _BEND | _words("div float neg rdiv rsub sub to truediv type_as")
_ASKED = _COMPARE | _CHOOSE | _BOUND | _LARGER | _ADD | {"abs"}


class Suspects:
    """Tells the operations that act as a rectifier on a tensor whose units are followed."""

    def __init__(self) -> None:
        self._choices: ByTensor[None] = ByTensor()
        """Of comparisons of units: which of them to keep."""
        self._sizes: ByTensor[None] = ByTensor()
        """\\|x\\| of units."""

    def asks(self, operation: str) -> bool:
        """Whether it matters which arguments are followed."""
        return operation in _ASKED or bool(self._choices)

    def acts(
        self, operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], followed: list[Tensor], out: Any
    ) -> bool | Tensor:
        """Whether this call does, to be asked of every call in turn; of a bound, a tensor that says whether anything was
        beyond it.

        Args:
            operation: name of the function or method, without underscores around it.
            args, kwargs: of the call.
            followed: those among them whose units were followed when it began.
            out: what it gave.
        """
        if "relu" in operation or operation in OPERATORS or operation in _FUSED:
            return _flattened(args[0], out) if operation in _LEAKING else True
        if not followed and not self._choices:
            return False
        chosen = [t for t in tensors_in((*args, *kwargs.values())) if t in self._choices]
        followed = [t for t in followed if t not in self._choices]
        if operation in _COMPARE or (chosen and not followed):
            return self._compared(operation, [*chosen, *followed], out)
        if not followed:
            return False
        if chosen:
            return operation in _CHOOSE and _loses(operation, args, kwargs, followed)
        if operation == "abs":
            _add(self._sizes, tensors_in([out]))
        if operation in _ADD:  # x + |x|
            return len({t in self._sizes for t in followed}) == 2
        if operation in _LARGER:
            other = args[1] if len(args) > 1 else kwargs.get("other")
            return isinstance(other, Tensor) and len(followed) == 1 and _changed(followed[0], out)
        return operation in _BOUND and _changed(followed[0], out)

    def _compared(self, operation: str, read: list[Tensor], out: Any) -> bool:
        """Note a choice, or what was made of one; whether it is itself what the next layer reads."""
        made = list(tensors_in([out]))
        if operation in _WEIGH:
            return True
        if read and made and made[0].numel() >= max(t.numel() for t in read):  # not a count of them
            _add(self._choices, made)
        return False


def _loses(operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], followed: list[Tensor]) -> bool:
    """Whether units that are not chosen become constant; -inf is for a softmax that follows."""
    values = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, (int, float))]
    return min(values, default=0) > -1000 and (operation != "where" or len(followed) == 1)


def _changed(x: Tensor, out: Any) -> bool | Tensor:
    if type(out) is not Tensor or x is out or x.shape != out.shape or in_functorch():  # no values to be compared
        return True
    with disable_torch_function():  # another that counts would take this for the network's doing
        return (x != out).any()


def _flattened(x: Any, out: Any) -> bool | Tensor:
    """Whether values became 0 by being below some bound, and all others did not, whatever computed that."""
    if type(out) is not Tensor or not isinstance(x, Tensor) or in_functorch():  # no values to be compared
        return False
    if x.shape != out.shape or not x.is_floating_point() or not x.numel() or x.data_ptr() == out.data_ptr():
        return False
    with disable_torch_function():
        gone = out == 0
        highest, lowest = torch.where(gone, x, -torch.inf).max(), torch.where(gone, torch.inf, x).min()
        acted: Tensor = ((x != 0) & gone).any() & (highest <= lowest)
        return acted


def _add(tensors: ByTensor[None], new: Iterable[Tensor]) -> None:
    for tensor in new:
        tensors.set(tensor, None)


# ---------------------------------------------------------------------------------------------------------------------
# Forward passes

_NONE: list[Tensor] = []
_NOT_SEEN = "made where no operation is seen: an autograd Function, a scripted function, another library"
_ROOTS = tuple(str(Path(module.__file__ or "").parent) + os.sep for module in (torch, sys.modules["undying"]))


class Unseen:
    """Lists such places during the forward passes of a network; entered for each of them, within ``axes``.

    Args:
        axes: follows the units.
        running: knows which module is running.
    """

    def __init__(self, axes: UnitAxes, running: ModuleStack) -> None:
        # They hold each other else, and the network with them, until the garbage collector comes.
        self._axes: UnitAxes = weakref.proxy(axes)
        self._running = running
        self._names = {module: name for name, module in running.model.named_modules()}
        self._activations = {part for module in self._names if is_activation(module) for part in module.modules()}
        """With what they compute with."""
        self._own = {module for module in self._names if _may_be_an_activation(module)}
        self._suspects = Suspects()
        self._operation = ""
        self._followed: list[Tensor] = _NONE
        self._stack = contextlib.ExitStack()
        self.noted: Callable[[str, Any], None] | None = None
        """Called with the name of each place and what it gives."""
        self.restart()

    def restart(self) -> None:
        """Forget what was found."""
        self._found: dict[str, tuple[Unrecognised, bool | Tensor]] = {}
        self.start()

    def start(self) -> None:
        """Begin a forward pass."""
        self._calls: dict[str, int] = {}
        self._inside: dict[nn.Module, set[str]] = {}

    @property
    def places(self) -> dict[str, Unrecognised]:
        """What was found, by name, ``#2`` for a second call."""
        return {name: place for name, (place, acted) in self._found.items() if bool(acted)}

    def __enter__(self) -> Unseen:
        self._stack.enter_context(register_module_forward_hook(Hook(self._left)))  # sees scripted modules too
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def given(self, *inputs: Any) -> None:
        """Say what the forward pass is given."""
        for tensor in reachable(inputs):
            self._axes.know(tensor)

    def note(
        self, label: str, what: str, acted: bool | Tensor = True, line: str | None = None, out: Any = None
    ) -> None:
        """List a place, which gives ``out``."""
        self._calls[label] = self._calls.get(label, 0) + 1
        name = label if self._calls[label] == 1 else f"{label}#{self._calls[label]}"
        before = self._found[name][1] if name in self._found else False
        self._found[name] = Unrecognised(self._layer, what, line or line_of_call()), acted | before
        if self.noted is not None:
            self.noted(name, out)

    def read(self, func: Callable[..., Any], given: list[Tensor]) -> None:
        """Look at an operation before it; ``given``: the tensors among its arguments."""
        if self._running.module not in self._activations:
            self._meet(given)
        self._operation = getattr(func, "__name__", "").partition(".")[0].strip("_")
        asks = self._suspects.asks(self._operation)
        self._followed = [tensor for tensor in given if self._axes.of(tensor) is not None] if asks else _NONE

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """Look at it after it."""
        module, operation = self._running.module, self._operation
        followed, self._followed = self._followed, _NONE
        if module is not None and module in self._own and isinstance(out, Tensor):
            self._inside.setdefault(module, set()).add(operation)
        if func in TYPE_OF or module in self._activations:
            return
        acted = self._suspects.acts(operation, args, kwargs, followed, out)
        if acted is not False:
            self.note(self._label(operation), operation, acted, out=args[0] if operation == "setitem" else out)

    @property
    def _layer(self) -> str:
        return self._running.name if self._running.module is not None else ""

    def _label(self, word: str) -> str:
        return f"{self._layer}.{word}" if self._layer else word

    def _meet(self, tensors: Iterable[Tensor], source: nn.Module | None = None) -> None:
        """List tensors that came out of nothing that was seen; ``source`` gave them."""
        for tensor in tensors:
            if self._axes.knows(tensor) or isinstance(tensor, nn.Parameter):
                continue
            self._axes.know(tensor)
            if tensor.is_floating_point() and tensor.dim() > 1 and not in_functorch():
                line = None if source is None else _place_of(source)
                self.note(self._label("unseen"), _NOT_SEEN, line=line, out=tensor)

    def _left(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module ends, and still is the one that is running."""
        if module not in self._names:
            return
        if isinstance(module, torch.jit.ScriptModule):
            words = _activations_in(module)
            if words:
                self.note(self._names[module], f"{', '.join(words)} in a traced or scripted part", out=output)
            self.given(output)
        elif module in self._activations:
            for tensor in tensors_in([output]):
                self._axes.know(tensor)
        else:
            self._meet(tensors_in([output]), module)
            if module not in self._own:
                return
            inside = self._inside.pop(module, set())
            acted: bool | Tensor = False
            if inside & _BEND and inside <= _ELEMENTWISE and self._axes.of(output) is not None:
                acted = True
            elif (
                args
                and not inside & OPERATORS.keys()
                and not any(p.layer == self._layer for p, _ in self._found.values())
            ):
                acted = _flattened(args[0], output)
            if acted is not False:
                said = f"{type(module).__name__} is not known; undying.register_activation tells of it"
                self.note(self._layer, said, acted, _place_of(module), output)


class Seeing(UnitAxes):
    """While active, lists such places of a network."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._running = ModuleStack(model)
        self.unseen = Unseen(self, self._running)

    def __enter__(self) -> Seeing:
        self.know_all(self._running.model)
        self._running.__enter__()
        self.unseen.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.unseen.__exit__()
        self._running.__exit__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.unseen.read(func, list(tensors_in((*args, *(kwargs or {}).values()))))
        out = super().__torch_function__(func, types, args, kwargs)
        self.unseen.called(func, args, kwargs or {}, out)
        return out


def _may_be_an_activation(module: nn.Module) -> bool:
    """Whether it is of a type of the user's, and holds neither modules nor parameters."""
    if type(module).__module__.split(".")[0] == "torch" or is_activation(module):
        return False
    return not any(True for _ in module.children()) and not any(True for _ in module.parameters())


def _activations_in(module: Any) -> list[str]:
    """The operations of a scripted part that are activations, or act as one."""
    try:
        blocks, words = [module.inlined_graph], []
    except RuntimeError:
        return ["code that cannot be looked into"]
    while blocks:
        for node in blocks.pop().nodes():
            blocks += node.blocks()
            words.append(node.kind().split("::")[-1].strip("_"))
    acting = OPERATORS.keys() | _BOUND | {"maximum", "minimum", "where", "masked_fill"}
    return [word for word in dict.fromkeys(words) if word in acting or "relu" in word]


def _place_of(module: nn.Module) -> str | None:
    """Where the forward of a module is written; None in torch."""
    code = getattr(type(module).forward, "__code__", None)
    if code is None or code.co_filename.startswith(_ROOTS):
        return None
    return f"{code.co_filename}:{code.co_firstlineno}"


def line_of_call() -> str | None:
    """The innermost line of the forward pass outside of torch and this package; None where there is none."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_ROOTS[1]):
        frame = frame.f_back
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_ROOTS[0]):
        frame = frame.f_back
    name = frame.f_code.co_filename
    return None if name.startswith(_ROOTS) else f"{name}:{frame.f_lineno}"


def reachable(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors in a value: in lists, tuples and mappings, and in the attributes of objects such as graphs."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from reachable(part, depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)):
        yield from reachable(vars(value), depth - 1)
