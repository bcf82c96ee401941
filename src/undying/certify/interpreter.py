"""Which units can fire for no input in a box: the exported graph of a network, walked once with intervals."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from undying._base.errors import UndyingError
from undying._base.places import Places
from undying._base.preserve_state import device_of, preserve_state
from undying._base.unwrap import check_module
from undying._torch import OpOverload, schema_of
from undying.activations.known import OPERATORS, is_activation
from undying.census.batches import entry
from undying.census.fingerprint import weights_of
from undying.certify.arithmetic import Arithmetic, Interval, Unbounded
from undying.certify.backends import Backends
from undying.certify.box import Box
from undying.certify.certificate import Certificate, CertifiedSite
from undying.certify.rules import MAKES, MOVES, RULES, Op, Undecided
from undying.units.layout import Layout
from undying.units.marks import Known, Mark
from undying.units.rules import following
from undying.units.sites import site_layout
from undying.units.unseen import Suspects


def certify(
    model: nn.Module,
    box: Box | tuple[Tensor, Tensor],
    *,
    axes: Mapping[str, int] | None = None,
    method: str | Callable[..., Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Certificate:
    """Bound every unit's pre-activation over all inputs in a box; a unit whose upper bound is <= 0 cannot fire.

    Interval bounds (Gowal et al. 2018, arXiv:1810.12715) over the graph of :func:`torch.export.export`, with margins
    for the rounding of the network's own arithmetic, stated in :mod:`undying.certify.arithmetic`: a certified unit does not
    fire in the real float32, bfloat16 or float16 forward pass either. Bounds hold, and are not tight: that a unit is not
    certified says nothing.

    Args:
        model: a network of one floating point input; taken in eval mode and left as it was.
        box: a :class:`Box`, or a pair ``(low, high)`` for one. Its shape is the input's with the batch axis. Bounds
            hold for batches of any size where samples do not meet in the network, as in eval mode they rarely do.
        axes: unit axis by site name, where the producer of a tensor does not decide it.
        method: what is given the input where it is not the model, as for :func:`undying.census`: a method's name, or a function that
            calls the model. The certificate is of that path alone, as its ``model`` says, and :func:`undying.prune_` and
            :func:`undying.recycle_`, which change every path, refuse it.
        progress: called after each operation with how many are bounded, and how many there are.

    Returns:
        a :class:`Certificate`, with a site for each activation call, named as by :func:`undying.census`.

    Raises:
        TypeError, ValueError: a bad box (:class:`Box`), an ambiguous unit axis, axes for no site, or no such method.
        UndyingError: the network cannot be traced, sets a backend of torch in its forward pass, or runs under autocast.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> print(certify(net, Box(torch.zeros(1, 4), torch.ones(1, 4))).table().split("largest")[0].rstrip())
    site  kind  units  dead  always on
    >>> certify(net, (torch.zeros(1, 4), torch.ones(1, 4)))["1"].dead
    tensor([True, True, True])
    """
    check_module(model)
    box = box if isinstance(box, Box) else _box_of_pair(box)
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise UndyingError(
            "certify does not follow autocast, which is on: leave it, and certify model.to(torch.bfloat16) for networks "
            "that compute in bfloat16"
        )
    called = type(model).__name__
    if method is not None:
        entry(model, method)
        called += f".{method}" if isinstance(method, str) else f" by {getattr(method, '__name__', repr(method))}"
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    with preserve_state(model), torch.no_grad(), _calling(model, method):
        model.eval()
        backends = Backends.now()
        walk = _Walk(model, _traced(model, box, dtype, backends), box, dict(axes or {}), backends)
        walk.run(progress or (lambda _done, _all: None))
    unknown = walk.axes.keys() - {site.name for site in walk.sites}
    if unknown:
        raise ValueError(
            f"axes names {sorted(unknown)}, which is no site; sites: {', '.join(s.name for s in walk.sites)}"
        )
    return Certificate(
        walk.sites,
        walk.stopped,
        box,
        called,
        str(dtype).removeprefix("torch."),
        walk.unrecognised,
        weights_of(model),
    )


def _box_of_pair(pair: Any) -> Box:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"box must be a Box or a pair (low, high), not {type(pair).__name__}; Box.of(data) makes one of data"
        )
    return Box(*pair)


@contextlib.contextmanager
def _calling(model: nn.Module, method: str | Callable[..., Any] | None) -> Iterator[None]:
    """Meanwhile a call of the model is one of ``method``, within which it is the model's own again: what is exported is a
    module's forward."""
    if method is None:
        yield
        return
    function, own, before = entry(model, method), vars(model), vars(model).get("forward")

    def put_back() -> None:
        if before is None:
            own.pop("forward", None)
        else:
            own["forward"] = before

    def forward(x: Tensor) -> Any:
        put_back()
        try:
            return function(x)
        finally:
            own["forward"] = forward

    own["forward"] = forward
    try:
        yield
    finally:
        put_back()


class _BackendsKept(TorchFunctionMode):
    """Raises where a forward pass changes torch's backends: its graph does not show it, and export itself sets some."""

    def __init__(self, backends: Backends) -> None:
        super().__init__()
        self._backends = backends

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if Backends.now() != self._backends:
            raise RuntimeError("the forward pass changes a precision or a backend of torch")
        return func(*args, **(kwargs or {}))


def _traced(model: nn.Module, box: Box, dtype: torch.dtype, backends: Backends) -> Any:
    """The exported program; only the example's shape, type and device matter."""
    example = torch.zeros(box.shape, dtype=dtype, device=device_of(model))
    try:
        with _BackendsKept(backends):
            model(example)
        return torch.export.export(model, (example,), strict=False)
    except Exception as error:
        raise UndyingError(
            f"certify cannot trace {type(model).__name__} for one input of shape {box.shape}: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else ''}. It needs what torch.export needs: no "
            "Python decisions on values of tensors (torch.where instead), one input. A part can be certified by itself: "
            "certify(model.features, box)"
        ) from error


class _Unknown:
    """A value that depends on something without bounds."""


class _Walk:
    """Goes through the graph once, with an interval, a constant or :class:`_Unknown` for each tensor."""

    def __init__(self, model: nn.Module, exported: Any, box: Box, axes: dict[str, int], backends: Backends) -> None:
        self.model, self.exported, self.box, self.axes, self.backends = model, exported, box, axes, backends
        self.sites: list[CertifiedSite] = []
        self.stopped: list[str] = []
        self.unrecognised: list[str] = []
        self._suspects = Suspects()
        self._names = {module: name for name, module in model.named_modules()}
        self._places = Places(model)
        self._calls: dict[str, int] = {}
        self._seen: set[tuple[str, ...]] = set()
        self._values: dict[Node, Any] = {}
        self._layouts: dict[Node, list[Known]] = {}
        """Of each tensor that a node gives."""
        self._order: dict[Node, int] = {node: i for i, node in enumerate(exported.graph.nodes)}
        self._memory = _memory(self._order)
        self._same = _same(self._order)
        self._overwritten = {s for node in self._order for n in _written(node) for s in self._memory[n]}
        self._user_inputs = set(exported.graph_signature.user_inputs)
        self._constants = _constants(exported)

    def run(self, progress: Callable[[int, int], object]) -> None:
        for done, node in enumerate(self._order, 1):
            if node.op == "placeholder":
                self._values[node], self._layouts[node] = self._given(node), [None]
            elif node.op != "output":
                self._note_site(node)
                self._layouts[node] = self._layouts_after(node)
                self._values[node] = self._computed(node)
                for target in _written(node):
                    self._overwrite(node, target)
            progress(done, len(self._order))

    # Values

    def _given(self, node: Node) -> Any:
        if node.name in self._user_inputs:
            return Interval(self.box.low, self.box.high)
        if self._memory[node] & self._overwritten:
            return _Unknown()  # a buffer that a forward pass changes is another one in the next
        value = self._constants.get(node.name)
        return value.detach().cpu() if isinstance(value, Tensor) else _Unknown()

    def _computed(self, node: Node) -> Any:
        if not _tensors(node):
            return None  # a check, or a number read of a tensor
        if any(isinstance(self._values[n], _Unknown) for n in node.all_input_nodes):
            return _Unknown()
        if node.target is operator.getitem:
            return self._values[node.all_input_nodes[0]][node.args[1]]
        try:
            return self._bounded(node)
        except Unbounded as error:
            self._stop(node, f"{_name(node)} {error}".rstrip())
            return _Unknown()

    def _bounded(self, node: Node) -> Any:
        name, out = _name(node), _tensors(node)[0]
        if name == "detach":
            return self._values[node.all_input_nodes[0]]
        if not isinstance(node.target, OpOverload) or (name in MOVES and _written(node)):
            raise Unbounded
        if any(self._values[n] is None for n in node.all_input_nodes):
            raise Unbounded("of a number that the forward pass reads of a tensor")
        arguments = {key: _resolved(value, self._values) for key, value in _bound(node).items()}
        varying = any(isinstance(v, (Interval, Undecided)) for v in _flat(arguments.values()))
        if name in MAKES or (not varying and _exact(node)):
            made = node.target(**{key: v.low if isinstance(v, Interval) else v for key, v in arguments.items()})
            return made.to("cpu", out.dtype) if isinstance(made, Tensor) else made
        if name not in RULES or out.is_complex():
            raise Unbounded
        arithmetic = Arithmetic.of(out.dtype if out.is_floating_point() else torch.float64, out.device, self.backends)
        value = RULES[name](Op(name, node.target, arguments, arithmetic, out.device, self.backends))
        if not out.is_floating_point() and not isinstance(value, Undecided):
            raise Unbounded
        return (
            Interval(value.low.expand(out.shape), value.high.expand(out.shape))
            if isinstance(value, Interval)
            else value
        )

    def _stop(self, node: Node, what: str) -> None:
        inner = [self._names[module] for _, module in self._modules(node)]
        label = f"{(inner[-1] if inner else '') or type(self.model).__name__} ({what})"
        if label not in self.stopped:
            self.stopped.append(label)

    def _overwrite(self, node: Node, target: Node) -> None:
        """After an operation in place: the same tensor has the new value; others that may share its memory are not
        followed."""
        for other in [n for n in self._values if n is not node and self._memory[n] & self._memory[target]]:
            if self._same[other] is self._same[target]:
                self._values[other] = self._values[node]
            elif not isinstance(self._values[other], _Unknown):
                self._values[other] = _Unknown()
                if any(self._order[user] > self._order[node] and user.op != "output" for user in other.users):
                    self._stop(node, f"{_name(node)}_ through a view")

    # Sites

    def _note_site(self, node: Node) -> None:
        """Where an activation begins: note the bounds of its input, which one in place is about to overwrite."""
        modules = self._modules(node)
        for depth, (_, module) in enumerate(modules):
            if is_activation(module):
                call = tuple(key for key, _ in modules[: depth + 1])
                if node.all_input_nodes and call not in self._seen and _name(node) not in _LIFTS:
                    self._seen.add(call)
                    name = self._places.name(module, modules[depth - 1][1] if depth else None)
                    self._add_site(node, name or type(module).__name__, type(module).__name__)
                return
        kind = OPERATORS.get(_name(node))
        if kind is not None:
            owner = self._names[modules[-1][1]] if modules else ""
            self._add_site(node, f"{owner}.{_name(node)}" if owner else _name(node), kind)

    def _add_site(self, node: Node, label: str, kind: str) -> None:
        self._calls[label] = self._calls.get(label, 0) + 1
        name = label if self._calls[label] == 1 else f"{label}#{self._calls[label]}"
        inputs = node.all_input_nodes
        source = next((n for n in inputs if not isinstance(self._values[n], Tensor)), inputs[0])
        value = self._values[source]
        if isinstance(value, Tensor):
            value = Interval(value.double(), value.double())
        if not isinstance(value, Interval):
            self.sites.append(CertifiedSite(name, kind, None, None))
            return
        layout = site_layout(name, value.low, self._layouts[source][0], self.axes)
        upper, lower = layout.columns(value.high).values, layout.columns(value.low).values
        self.sites.append(CertifiedSite(name, kind, upper.amax((0, 2)), lower.amin((0, 2))))

    def _modules(self, node: Node) -> list[tuple[str, nn.Module]]:
        """The modules whose forward makes this node, outermost first, each with a key of this very call."""
        stack = node.meta.get("nn_module_stack") or {}
        return [(key, self.model.get_submodule(path)) for key, (path, _) in stack.items()]

    # Units

    def _layouts_after(self, node: Node) -> list[Known]:
        """Where the units of each tensor lie that a node gives; see :mod:`undying.units.rules`."""
        if node.target is operator.getitem:
            source, index = node.args
            return [self._layouts[source][index]]  # type: ignore[index]
        known = {
            id(t): Mark.CONSTANT if isinstance(self._values[n], Tensor) else layout
            for n in node.all_input_nodes
            for t, layout in zip(_tensors(n), self._layouts[n], strict=True)
        }
        args, kwargs = torch.fx.map_arg(
            (node.args, dict(node.kwargs)),
            lambda n: self._constants.get(
                n.name, n.meta.get("val")
            ),  # parameters as such: a product with one is told by it
        )
        self._suspect(node, args, kwargs, [t for t in _flat([args]) if isinstance(known.get(id(t)), Layout)])
        follow = following(_name(node), args, kwargs, lambda t: known.get(id(t)))
        return [follow(t) for t in _tensors(node)]

    def _suspect(self, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], followed: list[Tensor]) -> None:
        """Note an operation that acts as an activation and is no site."""
        name, modules = _name(node), self._modules(node)
        if name in OPERATORS or any(is_activation(module) for _, module in modules):
            return
        if self._suspects.acts(name, args, kwargs, followed, node.meta.get("val")) is not False:
            owner = self._names[modules[-1][1]] if modules else ""
            label = f"{owner}.{name}" if owner else name
            if label not in self.unrecognised:
                self.unrecognised.append(label)


def _constants(exported: Any) -> dict[str, Any]:
    """Parameters, buffers and lifted constants by the names of their placeholders."""
    signature = exported.graph_signature
    values = {**exported.constants, **exported.state_dict}
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    return {name: values.get(target) for name, target in targets.items()}


_LIFTS = {"lift_fresh", "lift_fresh_copy", "detach"}  # a constant written in a forward


def _name(node: Node) -> str:
    """The operator without underscores around it (``relu_`` is relu); with its namespace where that is not ATen."""
    if not isinstance(node.target, OpOverload):
        return getattr(node.target, "__name__", str(node.target))
    space, name = str(schema_of(node.target).name).split("::")
    return name.strip("_") if space == "aten" else f"{space}::{name}"


def _bound(node: Node) -> dict[str, Any]:
    """A node's arguments by the names of its operator's schema, defaults included."""
    arguments: dict[str, Any] = {}
    for i, argument in enumerate(schema_of(node.target).arguments):
        default = argument.default_value if argument.has_default_value() else None
        arguments[argument.name] = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, default)
    return arguments


def _resolved(value: Any, values: Mapping[Node, Any]) -> Any:
    if isinstance(value, Node):
        return values[value]
    return [_resolved(v, values) for v in value] if isinstance(value, (list, tuple)) else value


def _exact(node: Node) -> bool:
    """Whether on constants an operation gives the same numbers in every run: it moves numbers, or makes whole ones."""
    random = torch.Tag.nondeterministic_seeded in node.target.tags  # type: ignore[union-attr]
    return _name(node) in MOVES or not (
        random or _tensors(node)[0].is_floating_point() or _tensors(node)[0].is_complex()
    )


def _flat(values: Iterable[Any]) -> list[Any]:
    return [leaf for v in values for leaf in (_flat(v) if isinstance(v, (list, tuple)) else [v])]


def _tensors(node: Node) -> list[Tensor]:
    """The tensors, without data, that a node stands for."""
    return [v for v in _flat([node.meta.get("val")]) if isinstance(v, Tensor)]


def _written(node: Node) -> list[Node]:
    """The nodes whose memory an operation in place overwrites."""
    if not isinstance(node.target, OpOverload) or _name(node) == "detach":
        return []  # detach_ (torch.tensor in a forward makes one) changes no number
    arguments = schema_of(node.target).arguments
    overwritten = {a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write}
    values = [value for name, value in _bound(node).items() if name in overwritten]
    return [v for v in _flat(values) if isinstance(v, Node)]


#: Views of tensors that lie in memory in one way, and copies of those that lie in another.
_PERHAPS_VIEWS = "as_strided contiguous flatten ravel reshape reshape_as to"


def _memory(nodes: Iterable[Node]) -> dict[Node, set[int]]:
    """The memory that each node's tensors may lie in, as keys. What may be a view shares that of its source, although it
    is a copy in this trace: the input may lie in memory in another way than the example."""
    memory: dict[Node, set[int]] = {}
    for node in nodes:
        memory[node] = {_storage(t) for t in _tensors(node)}
        for source in _aliased(node):
            memory[node] |= memory[source]
    return memory


def _aliased(node: Node) -> list[Node]:
    """The nodes of which this one may be a view."""
    if node.target is operator.getitem:
        return list(node.all_input_nodes)
    if not isinstance(node.target, OpOverload):
        return []
    aliased = {a.name for a in schema_of(node.target).arguments if a.alias_info is not None}
    sources = [v for name, v in _bound(node).items() if name in aliased and isinstance(v, Node)]
    return [source for source in sources if {t.dtype for t in _tensors(source)} == {t.dtype for t in _tensors(node)}]


def _same(nodes: Iterable[Node]) -> dict[Node, Node]:
    """For each node the first one that is the same tensor in every layout: after an operation in place, dropout in eval."""
    same: dict[Node, Node] = {}
    for node in nodes:
        source = next(iter(node.all_input_nodes), node)
        kept = _place(node) == _place(source) and _name(node) not in _PERHAPS_VIEWS.split()
        same[node] = same.get(source, node) if kept else node
    return same


def _storage(x: Tensor) -> int:
    key: int = StorageWeakRef(x.untyped_storage()).cdata
    return key


def _place(node: Node) -> list[Any]:
    """Where a node's tensors lie in the trace."""
    return [(_storage(t), t.storage_offset(), t.shape, t.stride(), t.dtype) for t in _tensors(node)]
