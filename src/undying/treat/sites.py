"""Find where a network holds or calls an activation."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying._base.module_stack import ModuleStack
from undying._base.patterns import Skip
from undying._base.preserve_state import preserve_state
from undying._torch import disable_torch_function
from undying.activations.known import TYPE_OF, functional_forms, is_composed, overridable_functions, type_of
from undying.census.batches import Method, entry
from undying.treat.change import is_converted
from undying.treat.forwards import Passing, caller, plain_type
from undying.treat.sharing import holders
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
    method: str | None = None
    """A method called there, which torch.fx does not show to one."""
    in_functions: bool = False
    """Whether some of the calls are made inside of an autograd Function, where they stay."""
    shared: str | None = None
    """Who holds this module outside of the network: it must stay there what it is."""


def find(
    model: nn.Module, targets: Sequence[type[nn.Module]], example: Any, skip: Skip, method: Method = None
) -> tuple[list[Site], list[str]]:
    """Every site of ``targets`` in ``model``, with the reason where one must be left alone, and notes.

    Calls are found by running ``example`` (a tensor, a tuple of positional or a dict of keyword arguments; None: no
    calls), once in eval and once in training mode; by ``method`` where that is what is called with it.
    """
    shared = holders(model)
    sites = [*_modules(model, targets), *_attributes(model, targets)]
    notes: list[str] = []
    if example is not None:
        sites += _called(model, targets, example, sites, notes, entry(model, method))
    for site in sites:
        site.reason = skip.reason_for(site.name) or site.reason
    return sites, [*notes, *_sharing(model, sites, shared)]


def _sharing(model: nn.Module, sites: list[Site], shared: dict[nn.Module, str]) -> Iterator[str]:
    """Notes on what is held outside of the network too; writes it into the sites."""
    names = {module: name for name, module in model.named_modules()}
    changing = [site for site in sites if site.reason is None and site.alias_of is None]
    alone = {site.module for site in changing if site.kind == "module"}
    for module, who in shared.items():
        if module in alone:
            yield f"{names[module]} is shared with {who}: it is converted here alone"
        elif {site.module for site in changing}.intersection(module.modules()):
            yield f"{names[module]} is shared with {who}: what is converted in it is converted there too"
    for site in sites:
        if site.kind == "module":
            site.shared = shared.get(site.module)


def unrecognised(model: nn.Module, example: Any, method: Method = None) -> dict[str, Unrecognised]:
    """Places of ``model`` that act as an activation and are none that is known, by name, as ``example`` shows them."""
    with preserve_state(model), torch.no_grad():
        model.eval()
        with Seeing(model) as seeing:
            seeing.unseen.given(example)
            _run(entry(model, method), example)
    return seeing.unseen.places


def _modules(model: nn.Module, targets: Sequence[type[nn.Module]]) -> Iterator[Site]:
    first: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        cls = plain_type(module)
        if id(module) in first:
            yield Site(name, "module", module, cls, repr(module), alias_of=first[id(module)])
            continue
        if cls in targets:
            site = Site(name, "module", module, cls, repr(module), reason=_own_forward(module))
        elif base := next((t for t in targets if isinstance(module, t)), None):
            reason = f"a subclass of {base.__name__}; name its type in targets to convert it"
            site = Site(name, "module", module, base, repr(module), reason=reason)
        elif nn.ReLU in targets and isinstance(module, (nn.RNN, nn.RNNCell)) and module.nonlinearity == "relu":
            site = Site(name, "module", module, nn.ReLU, repr(module), reason="its relu is inside a fused kernel")
        else:
            continue
        first[id(module)] = name
        yield site


def _own_forward(module: nn.Module) -> str | None:
    """Why a module stays whose instance has a forward: that goes on to run the one of the old class."""
    forward = vars(module).get("forward")
    if forward is None or isinstance(forward, Passing):
        return None
    return "a forward was put on this module itself, as hooks of accelerate do; take it off, convert, put it on again"


def _attributes(model: nn.Module, targets: Sequence[type[nn.Module]]) -> Iterator[Site]:
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            kind = type_of(value)
            if kind is not None and kind in targets:
                yield Site(_join(name, key), "attribute", module, kind, _called_as(value), attribute=key)


def _called(
    model: nn.Module,
    targets: Sequence[type[nn.Module]],
    example: Any,
    sites: list[Site],
    notes: list[str],
    call: Callable[..., Any],
) -> Iterator[Site]:
    """Run the example; write the number of calls into ``sites`` and give those that only a call shows."""
    recorder = _Recorder(targets)
    for training in (False, True):
        try:
            with recorder.watching(model, sites):
                model.train(training)
                _run(call, example)
        except Exception as error:
            if not training:
                raise
            # Batch norm cannot train on one value, for instance. What eval mode showed stands.
            notes.append(f"calls made only in training were not looked for: the example fails there ({error})")
    for site in sites:
        key: tuple[nn.Module, Any] = (site.module, site.attribute)
        site.calls = max(recorder.passes[0][key], recorder.passes[-1][key])
        if key in recorder.whole and site.reason is None:
            site.reason = "called with whole numbers, of which there is no derivative"
    held = {site.module for site in sites if site.kind == "module"}
    for name, module in model.named_modules():
        for kind in targets:
            key = (module, kind)
            calls = max(seen[key] for seen in recorder.passes)
            if module in held or not (calls or key in recorder.in_functions):
                continue
            spelled = recorder.spelled[key]
            site = Site(name, "call", module, kind, spelled, calls=calls, reason=recorder.why_not(module, kind))
            site.hidden, site.method = recorder.hidden.get(key), recorder.methods.get(key)
            site.in_functions = key in recorder.in_functions
            if site.in_functions and site.reason is None:
                notes.append(f"{name or '(root)'} calls {spelled} in an autograd Function of its own too: that stays")
            yield site
    for kind in targets:
        if not (calls := max(seen[None, kind] for seen in recorder.passes)):
            continue
        reason = "called in a method that is no forward, where no call is replaced; make it a module"
        yield Site("", "call", model, kind, functional_forms(kind)[0].__name__, calls=calls, reason=reason)


class _Recorder(TorchFunctionMode):
    """Counts, by module, how often it is called, and how often its own forward calls a functional form of a target."""

    def __init__(self, targets: Sequence[type[nn.Module]]) -> None:
        super().__init__()
        self.targets = targets
        self.passes: list[Counter[Any]] = []
        self.spelled: dict[Any, str] = {}
        self.checkpointed: set[Any] = set()
        self.in_functions: set[Any] = set()
        self.with_gradient: set[Any] = set()
        self.whole: set[Any] = set()
        """Modules and attributes called with whole numbers."""
        self.hidden: dict[Any, str] = {}
        self.methods: dict[Any, str] = {}
        self.last_call: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.own_arithmetic: set[nn.Module] = set()
        """Modules without children or parameters that do more than call one function: activations themselves."""

    def why_not(self, module: nn.Module, kind: type[nn.Module]) -> str | None:
        """Why calls of ``kind``'s functional forms in the forward of ``module`` must not be replaced."""
        if isinstance(module, torch.fx.GraphModule):
            return "called in a graph that torch.fx traced; convert the network, then trace it"
        if (module, kind) in self.checkpointed:
            return "called by a function that torch.utils.checkpoint runs again outside the forward; make it a module"
        if (module, kind) not in self.with_gradient:
            return (
                "called where no gradient passes: under torch.no_grad, or in an autograd Function of the network's own"
            )
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
            stack.callback(delattr, self, "running")  # else the two keep each other, and the network with them
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
        if args and _is_whole(args[0]):
            self.whole.add((module, None))
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
            if args and _is_whole(args[0]):
                self.whole.add((site.module, site.attribute))
            with disable_torch_function():
                return function(*args, **kwargs)

        return counted

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        kind, owner = TYPE_OF.get(func), self.running.module
        if kind in self.targets and owner is None:  # in another method of the network
            self.passes[-1][None, kind] += 1
        # A converted module's own arithmetic is no site, nor is a clamp of indices.
        if kind in self.targets and owner is not None and not is_composed(owner) and not is_converted(owner):
            x = args[0] if args else kwargs["input"]
            if not _is_whole(x):
                self._called(func, owner, kind)
                self.last_call[owner] = (x, y)
        return y

    def _called(self, func: Callable[..., Any], owner: nn.Module, kind: Any) -> None:
        key, spelled = (owner, kind), _called_as(func)
        self.spelled.setdefault(key, spelled)
        if func not in overridable_functions():
            self.hidden[key] = spelled
        if spelled.startswith("Tensor."):
            self.methods[key] = spelled
        code = getattr(type(owner).forward, "__code__", None)
        by = caller(lambda frame: frame.f_code is code)
        if by == "function":
            self.in_functions.add(key)
            return
        self.passes[-1][key] += 1
        if by == "checkpoint":
            self.checkpointed.add(key)
        elif torch.is_grad_enabled():
            self.with_gradient.add(key)


def _is_whole(x: Any) -> bool:
    return isinstance(x, Tensor) and not x.is_floating_point()


def _run(model: Callable[..., Any], example: Any) -> None:
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
