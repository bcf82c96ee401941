"""Find where a network holds or calls an activation."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying._base.module_stack import ModuleStack
from undying._base.preserve_state import preserve_state
from undying._torch import disable_torch_function
from undying.activations.known import TYPE_OF, is_composed, overridable_functions, type_of
from undying.treat.change import is_converted
from undying.units.unseen import Seeing, Unrecognised

__all__ = ["Site", "find"]


@dataclass
class Site:
    """A module, a function held as an attribute, or the calls of a function in one module's forward."""

    name: str
    kind: str
    module: nn.Module
    """The module itself, or the one whose attribute or forward it is."""
    target: type[nn.Module]
    """The module type that it is, or computes."""
    old: str
    attribute: str | None = None
    calls: int | None = None
    reason: str | None = None
    alias_of: str | None = None
    hidden: str | None = None
    """A function called there that torch.compile does not show to a TorchFunctionMode of itself."""


def find(
    model: nn.Module, targets: Sequence[type[nn.Module]], example: Any, skip: Sequence[str]
) -> tuple[list[Site], list[str]]:
    """Every site of ``targets`` in ``model``, with the reason where one must be left alone, and notes.

    Calls are found by running ``example`` (a tensor, a tuple of positional or a dict of keyword arguments; None: no
    calls), once in eval and once in training mode.
    """
    sites = [*_modules(model, targets), *_attributes(model, targets)]
    notes: list[str] = []
    if example is not None:
        sites += _called(model, targets, example, sites, notes)
    for site in sites:
        pattern = next((p for p in skip if fnmatchcase(site.name, p)), None)
        if pattern is not None:
            site.reason = f"skipped, as it matches {pattern!r}"
    return sites, notes


def unrecognised(model: nn.Module, example: Any) -> dict[str, Unrecognised]:
    """Places of ``model`` that act as an activation and are none that is known, by name, as ``example`` shows them."""
    with preserve_state(model), torch.no_grad():
        model.eval()
        with Seeing(model) as seeing:
            seeing.unseen.given(example)
            _run(model, example)
    return seeing.unseen.places


def _modules(model: nn.Module, targets: Sequence[type[nn.Module]]) -> Iterator[Site]:
    first: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in first:
            yield Site(name, "module", module, type(module), repr(module), alias_of=first[id(module)])
        elif type(module) in targets:
            first[id(module)] = name
            yield Site(name, "module", module, type(module), repr(module))
        elif base := next((t for t in targets if isinstance(module, t)), None):
            first[id(module)] = name
            reason = f"a subclass of {base.__name__}; name its type in targets to convert it"
            yield Site(name, "module", module, base, repr(module), reason=reason)
        elif nn.ReLU in targets and getattr(module, "nonlinearity", None) == "relu":
            first[id(module)] = name
            yield Site(name, "module", module, nn.ReLU, repr(module), reason="its relu is inside a fused kernel")


def _attributes(model: nn.Module, targets: Sequence[type[nn.Module]]) -> Iterator[Site]:
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            kind = type_of(value)
            if kind is not None and kind in targets:
                yield Site(_join(name, key), "attribute", module, kind, _called_as(value), attribute=key)


def _called(
    model: nn.Module, targets: Sequence[type[nn.Module]], example: Any, sites: list[Site], notes: list[str]
) -> Iterator[Site]:
    """Run the example; write the number of calls into ``sites`` and give those that only a call shows."""
    recorder = _Recorder(targets)
    for training in (False, True):
        try:
            with recorder.watching(model, sites):
                model.train(training)
                _run(model, example)
        except Exception as error:
            if not training:
                raise
            # Batch norm cannot train on one value, for instance. What eval mode showed stands.
            notes.append(f"calls made only in training were not looked for: the example fails there ({error})")
    for site in sites:
        key = (site.module, site.attribute)
        site.calls = max(recorder.passes[0][key], recorder.passes[-1][key])
    held = {site.module for site in sites if site.kind == "module"}
    for name, module in model.named_modules():
        for kind in targets:
            calls = max(seen[module, kind] for seen in recorder.passes)
            if calls and module not in held:
                site = Site(name, "call", module, kind, recorder.spelled[module, kind], calls=calls)
                site.reason = recorder.why_not(module, kind)
                site.hidden = recorder.hidden.get((module, kind))
                yield site


class _Recorder(TorchFunctionMode):
    """Counts, by module, how often it is called, and how often its own forward calls a functional form of a target."""

    def __init__(self, targets: Sequence[type[nn.Module]]) -> None:
        super().__init__()
        self.targets = targets
        self.passes: list[Counter[Any]] = []
        self.spelled: dict[Any, str] = {}
        self.checkpointed: set[Any] = set()
        self.hidden: dict[Any, str] = {}
        self.last_call: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.own_arithmetic: set[nn.Module] = set()
        """Modules without children or parameters that do more than call one function: activations themselves."""

    def why_not(self, module: nn.Module, kind: type[nn.Module]) -> str | None:
        """Why calls of ``kind``'s functional forms in the forward of ``module`` must not be replaced."""
        if (module, kind) in self.checkpointed:
            return "called by a function that torch.utils.checkpoint runs again outside the forward; make it a module"
        if module in self.own_arithmetic:
            own = type(module).__name__
            return (
                f"{own} computes something of its own with {kind.__name__}; name {own} in targets to convert it whole"
            )
        return None

    @contextlib.contextmanager
    def watching(self, model: nn.Module, sites: list[Site]) -> Iterator[None]:
        """While open, one more pass is counted; afterwards the model is as it was."""
        self.passes.append(Counter())
        self.running = ModuleStack(model, self._left)
        with contextlib.ExitStack() as stack:
            stack.enter_context(preserve_state(model))
            stack.enter_context(self.running)
            for site in sites:
                if site.attribute is not None:
                    function = vars(site.module)[site.attribute]
                    vars(site.module)[site.attribute] = self._counting(site, function)
                    stack.callback(vars(site.module).__setitem__, site.attribute, function)
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self)
            yield

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        self.passes[-1][module, None] += 1
        inner = self.running.module is not None
        leaf = inner and not any(True for _ in module.children()) and not any(True for _ in module.parameters())
        if leaf and module in self.last_call:
            x, y = self.last_call.pop(module)
            # F.gelu wrapped in a class of one's own is no more than F.gelu.
            if not (args and args[0] is x and output is y):
                self.own_arithmetic.add(module)

    def _counting(self, site: Site, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.passes[-1][site.module, site.attribute] += 1
            with disable_torch_function():
                return function(*args, **kwargs)

        return counted

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        kind, owner = TYPE_OF.get(func), self.running.module
        # A converted module's own arithmetic is no site.
        if kind in self.targets and owner is not None and not is_composed(owner) and not is_converted(owner):
            self.passes[-1][owner, kind] += 1
            self.spelled.setdefault((owner, kind), _called_as(func))
            self.last_call[owner] = (args[0] if args else kwargs["input"], y)
            if func not in overridable_functions():
                self.hidden[owner, kind] = _called_as(func)
            if _through_checkpoint(owner):
                self.checkpointed.add((owner, kind))
        return y


def _through_checkpoint(owner: nn.Module) -> bool:
    """Whether torch.utils.checkpoint stands between the forward of ``owner`` and this call."""
    code = getattr(type(owner).forward, "__code__", None)
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not code:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _run(model: nn.Module, example: Any) -> None:
    example = _copied(example)
    if isinstance(example, Tensor):
        model(example)
    elif isinstance(example, Mapping):
        model(**example)
    elif isinstance(example, (tuple, list)):
        model(*example)
    else:
        raise TypeError(
            f"example must be a tensor, a tuple of arguments or a dict of them, not {type(example).__name__}"
        )


def _copied(value: Any) -> Any:
    """Tensors cloned, since a network may work in place on its input."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(v) for key, v in value.items()}
    return [_copied(v) for v in value] if type(value) in (tuple, list) else value


def _called_as(function: Any) -> str:
    """How a reader knows it: ``F.relu``, ``torch.relu``, ``Tensor.relu_``."""
    while hasattr(function, "func"):
        function = function.func
    name = getattr(function, "__name__", str(function))
    if getattr(torch.Tensor, name, None) is function:
        return f"Tensor.{name}"
    for owner, prefix in ((torch, "torch."), (F, "F.")):
        if getattr(owner, name, None) is function:
            return prefix + name
    return name


def _join(parent: str, child: str) -> str:
    return f"{parent}.{child}" if parent else child
