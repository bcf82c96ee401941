"""Which units can fire for no input in a box: proved by interval bounds, with no data at all."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.multiprocessing.reductions import StorageWeakRef

from undying._base import text
from undying._base.errors import UndyingError
from undying._base.files import write_text
from undying._base.preserve_state import device_of, preserve_state
from undying._torch import OpOverload, schema_of
from undying.activations.known import OPERATORS, is_activation
from undying.certify.rules import MAKES, MOVES, RULES, Arithmetic, Interval, Op, Unbounded, Undecided
from undying.units.layout import Layout
from undying.units.rules import following, site_layout

__all__ = ["Box", "Certificate", "CertifiedSite", "certify"]

_FORMAT = 1


@dataclass(frozen=True)
class Box:
    """All inputs x of one shape with low <= x <= high, elementwise.

    Args:
        low, high: tensors that broadcast to the shape of the network's input **with its batch axis**, usually of
            length 1: ``(1, 3, 64, 64)``. ``low`` may be -inf and ``high`` inf; the inputs themselves are finite.

    Raises:
        ValueError: NaN, low > high somewhere, low = inf or high = -inf, no batch axis, or shapes that do not fit.
        TypeError: not real numbers.
    """

    low: Tensor
    """float64, on the CPU."""
    high: Tensor

    def __post_init__(self) -> None:
        low, high = (_real(name, end) for name, end in (("low", self.low), ("high", self.high)))
        try:
            low, high = torch.broadcast_tensors(low, high)
        except RuntimeError:
            raise ValueError(
                f"box: low has shape {tuple(low.shape)} and high {tuple(high.shape)}; give both the shape of the input"
            ) from None
        if low.dim() == 0:
            raise ValueError("box: low and high are single numbers; give the input's shape, with its batch axis")
        if low.numel() == 0:
            raise ValueError(f"box: shape {tuple(low.shape)} holds no input")
        if not bool(((low <= high) & (low < math.inf) & (high > -math.inf)).all()):
            raise ValueError("box: low must be at most high everywhere, below inf, with high above -inf and no NaN")
        object.__setattr__(self, "low", low.contiguous())
        object.__setattr__(self, "high", high.contiguous())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input, with its batch axis."""
        return tuple(self.low.shape)

    @classmethod
    def of(cls, data: Iterable[Any]) -> Box:
        """The smallest box, with a batch axis of length 1, that holds ``data``: batches as :func:`undying.census` takes
        them, of one floating point input (dicts of one entry).

        Raises:
            ValueError: no data, more than one input, an empty batch, NaN, or samples of different shapes.
            TypeError: an input that is not real floating point numbers.

        >>> Box.of(torch.tensor([[0.0, 3.0], [1.0, 2.0]])).high
        tensor([[1., 3.]], dtype=torch.float64)
        """
        low: Tensor | None = None
        high: Tensor | None = None
        for batch in [data] if isinstance(data, (Tensor, Mapping)) else data:
            x = _real("data", _input_of(batch))
            if x.dim() == 0 or x.shape[0] == 0:
                raise ValueError(f"Box.of: a batch of shape {tuple(x.shape)} holds no sample")
            if low is not None and x.shape[1:] != low.shape[1:]:
                raise ValueError(f"Box.of: samples of shape {tuple(x.shape[1:])} after {tuple(low.shape[1:])}")
            least, most = x.amin(0, keepdim=True), x.amax(0, keepdim=True)
            low = least if low is None else torch.minimum(low, least)
            high = most if high is None else torch.maximum(high, most)
        if low is None or high is None:
            raise ValueError("Box.of: data gave no batch")
        return cls(low, high)

    @classmethod
    def nonnegative(cls, shape: Iterable[int]) -> Box:
        """All finite inputs >= 0 of a shape, with its batch axis: what a network sees behind a ReLU.

        >>> Box.nonnegative((1, 2)).high
        tensor([[inf, inf]], dtype=torch.float64)
        """
        low = torch.zeros(tuple(shape), dtype=torch.float64)
        return cls(low, torch.full_like(low, math.inf))

    def __contains__(self, x: Tensor) -> bool:
        """Whether every sample of a batch lies in the box (of batch length 1, or of the batch's own)."""
        return bool(((x.double().cpu() >= self.low) & (x.double().cpu() <= self.high)).all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and torch.equal(self.low, other.low) and torch.equal(self.high, other.high)

    __hash__ = None  # type: ignore[assignment]  # equal by value, as tensors are

    def __str__(self) -> str:
        return f"{tuple(self.shape)} in [{float(self.low.min()):.6g}, {float(self.high.max()):.6g}]"


def _real(name: str, value: Any) -> Tensor:
    tensor: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    if not tensor.is_floating_point():
        raise TypeError(
            f"box: {name} must hold real floating point numbers, not {tensor.dtype}; token ids have no range"
        )
    return tensor.detach().to("cpu", torch.float64)


def _input_of(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        if len(batch) != 1:
            raise ValueError(
                f"Box.of: a batch has the inputs {', '.join(map(str, batch))}; certify takes networks of one input"
            )
        return next(iter(batch.values()))
    return batch[0] if isinstance(batch, (tuple, list)) else batch


@dataclass(frozen=True)
class CertifiedSite:
    """One call of an activation: bounds of each unit's pre-activation over the box and all positions."""

    name: str
    """As the census names it: qualified module name, ``#2`` for the module's second call."""
    kind: str
    """Type of the activation."""
    upper: Tensor | None
    """float64, one entry a unit: no input in the box takes the pre-activation above it. None where the certificate
    ended before this site."""
    lower: Tensor | None
    """float64: nor below this."""

    @property
    def reached(self) -> bool:
        """Whether there are bounds."""
        return self.upper is not None

    @property
    def units(self) -> int | None:
        """How many units; None where not reached."""
        return None if self.upper is None else self.upper.numel()

    @property
    def dead(self) -> Tensor | None:
        """bool: certified dead, upper <= 0: the unit fires for no input in the box."""
        return None if self.upper is None else self.upper <= 0

    @property
    def always_on(self) -> Tensor | None:
        """bool: lower > 0: the unit fires for every input in the box, at every position."""
        return None if self.lower is None else self.lower > 0


@dataclass(frozen=True)
class Certificate:
    """What holds for every input in ``box``, in eval mode, with the weights as they were."""

    sites: list[CertifiedSite]
    """In call order."""
    stopped: list[str]
    """Operations that could not be bounded, as ``module (operation)``: the certificate ends there."""
    box: Box
    model: str
    """Type of the network."""
    dtype: str
    """Type it computes in."""

    def __getitem__(self, name: str) -> CertifiedSite:
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(f"no site {name!r}; sites: {', '.join(site.name for site in self.sites)}")

    @property
    def dead_units(self) -> int:
        """Units certified dead, over the sites that were reached."""
        return sum(int(site.dead.sum()) for site in self.sites if site.dead is not None)

    @property
    def covers(self) -> str:
        """What the certificate says, in words."""
        ends = f" It ends at {', '.join(self.stopped)}: what depends on them is not reached." if self.stopped else ""
        return (
            f"Holds for every finite input of {self.box}, to {self.model} in eval mode, computed in {self.dtype}, with the "
            f"weights and buffers as they were when it was made.{ends}"
        )

    def table(self) -> str:
        """A line a site, as text."""
        rows = [("site", "kind", "units", "dead", "always on", "largest upper bound"), *map(_row, self.sites)]
        return text.table(rows, left=2)

    def __str__(self) -> str:
        return f"{self.table()}\n{self.covers}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; infinities and NaN become the strings ``"inf"``, ``"-inf"`` and ``"nan"``."""
        return {
            "format": _FORMAT,
            "kind": "undying.Certificate",
            "model": self.model,
            "dtype": self.dtype,
            "box": {"shape": list(self.box.shape), "low": _packed(self.box.low), "high": _packed(self.box.high)},
            "stopped": list(self.stopped),
            "sites": [
                {
                    "name": site.name,
                    "kind": site.kind,
                    "upper": None if site.upper is None else _plain(site.upper),
                    "lower": None if site.lower is None else _plain(site.lower),
                }
                for site in self.sites
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: not a certificate, or one that a newer version wrote.
        """
        if data.get("kind") != "undying.Certificate" or not isinstance(data.get("format"), int):
            raise ValueError("not a certificate: no kind 'undying.Certificate' with a format number")
        if data["format"] > _FORMAT:
            raise ValueError(
                f"certificate has format {data['format']}, and this undying reads up to {_FORMAT}: upgrade undying to read it"
            )
        try:
            box, shape = data["box"], data["box"]["shape"]
            return cls(
                [
                    CertifiedSite(site["name"], site["kind"], _tensor(site["upper"]), _tensor(site["lower"]))
                    for site in data["sites"]
                ],
                list(data["stopped"]),
                Box(_unpacked(box["low"], shape), _unpacked(box["high"], shape)),
                data["model"],
                data["dtype"],
            )
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"damaged certificate: {type(error).__name__} {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON: beside ``path`` first and then renamed, so that no half file is ever found there."""
        write_text(Path(path), json.dumps(self.to_dict(), allow_nan=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: no such file.
            ValueError: not a certificate, or one that a newer version wrote.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise ValueError("not a certificate: not a JSON object")
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _row(site: CertifiedSite) -> tuple[str, ...]:
    if site.upper is None or site.dead is None or site.always_on is None:
        return site.name, site.kind, "", "not reached", "", ""
    dead, on = int(site.dead.sum()), int(site.always_on.sum())
    largest = f"{float(site.upper.max()):.4g}" if site.units else ""
    return site.name, site.kind, str(site.units), str(dead), str(on), largest


def _plain(values: Tensor) -> list[float | str]:
    return [v if math.isfinite(v) else str(v) for v in values.flatten().tolist()]


def _tensor(values: list[float | str] | None) -> Tensor | None:
    return None if values is None else torch.tensor([float(v) for v in values], dtype=torch.float64)


def _packed(end: Tensor) -> list[float | str]:
    """One number where all are the same."""
    same = end.numel() > 0 and bool((end == end.flatten()[0]).all())
    return _plain(end.flatten()[:1] if same else end)


def _unpacked(values: list[float | str], shape: list[int]) -> Tensor:
    end = torch.tensor([float(v) for v in values], dtype=torch.float64)
    return end.expand(math.prod(shape)).reshape(shape) if len(values) == 1 else end.reshape(shape)


def certify(
    model: nn.Module, box: Box | tuple[Tensor, Tensor], *, axes: Mapping[str, int] | None = None
) -> Certificate:
    """Bound every unit's pre-activation over all inputs in a box; a unit whose upper bound is <= 0 cannot fire.

    Interval bounds (Gowal et al. 2018, arXiv:1810.12715) over the graph of :func:`torch.export.export`, with margins
    for the rounding of the network's own arithmetic, stated in :mod:`undying.certify.rules`: a certified unit does not
    fire in the real float32, bfloat16 or float16 forward pass either. Bounds hold, and are not tight: that a unit is not
    certified says nothing.

    Args:
        model: a network of one floating point input; taken in eval mode and left as it was.
        box: a :class:`Box`, or a pair ``(low, high)`` for one. Its shape is the input's with the batch axis. Bounds
            hold for batches of any size where samples do not meet in the network, as in eval mode they rarely do.
        axes: unit axis by site name, where the producer of a tensor does not decide it.

    Returns:
        a :class:`Certificate`, with a site for each activation call, named as by :func:`undying.census`.

    Raises:
        TypeError, ValueError: a bad box (:class:`Box`), an ambiguous unit axis, or axes for no site.
        UndyingError: the network cannot be traced.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> print(certify(net, Box(torch.zeros(1, 4), torch.ones(1, 4))).table().split("largest")[0].rstrip())
    site  kind  units  dead  always on
    >>> certify(net, (torch.zeros(1, 4), torch.ones(1, 4)))["1"].dead
    tensor([True, True, True])
    """
    box = box if isinstance(box, Box) else _box_of_pair(box)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    with preserve_state(model), torch.no_grad():
        model.eval()
        walk = _Walk(model, _traced(model, box, dtype), box, dict(axes or {}))
        walk.run()
    unknown = walk.axes.keys() - {site.name for site in walk.sites}
    if unknown:
        raise ValueError(
            f"axes names {sorted(unknown)}, which is no site; sites: {', '.join(s.name for s in walk.sites)}"
        )
    return Certificate(walk.sites, walk.stopped, box, type(model).__name__, str(dtype).removeprefix("torch."))


def _box_of_pair(pair: Any) -> Box:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"box must be a Box or a pair (low, high), not {type(pair).__name__}; Box.of(data) makes one of data"
        )
    return Box(*pair)


def _traced(model: nn.Module, box: Box, dtype: torch.dtype) -> Any:
    """The exported program; only the example's shape, type and device matter."""
    example = torch.zeros(box.shape, dtype=dtype, device=device_of(model))
    try:
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

    def __init__(self, model: nn.Module, exported: Any, box: Box, axes: dict[str, int]) -> None:
        self.model, self.exported, self.box, self.axes = model, exported, box, axes
        self.sites: list[CertifiedSite] = []
        self.stopped: list[str] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._calls: dict[str, int] = {}
        self._seen: set[tuple[str, ...]] = set()
        self._values: dict[Node, Any] = {}
        self._layouts: dict[Node, list[Layout | None]] = {}
        """Of each tensor that a node gives."""
        self._order: dict[Node, int] = {node: i for i, node in enumerate(exported.graph.nodes)}
        self._storages = {node: _storages(node) for node in self._order}
        self._overwritten = {s for node in self._order for n in _written(node) for s in self._storages[n]}
        self._user_inputs = set(exported.graph_signature.user_inputs)
        self._constants = _constants(exported)

    def run(self) -> None:
        for node in self._order:
            if node.op == "placeholder":
                self._values[node], self._layouts[node] = self._given(node), [None]
            elif node.op != "output":
                self._note_site(node)
                self._layouts[node] = self._layouts_after(node)
                self._values[node] = self._computed(node)
                for target in _written(node):
                    self._overwrite(node, target)

    # Values

    def _given(self, node: Node) -> Any:
        if node.name in self._user_inputs:
            return Interval(self.box.low, self.box.high)
        if self._storages[node] & self._overwritten:
            return _Unknown()  # a buffer that a forward pass changes is another one in the next
        value = self._constants.get(node.name)
        return value.detach().cpu() if isinstance(value, Tensor) else _Unknown()

    def _computed(self, node: Node) -> Any:
        if not _tensors(node):
            return None  # a check
        if any(isinstance(self._values[n], _Unknown) for n in node.all_input_nodes):
            return _Unknown()
        if node.target is operator.getitem:
            return self._values[node.all_input_nodes[0]][node.args[1]]
        try:
            return self._bounded(node)
        except Unbounded:
            self._stop(node, _name(node))
            return _Unknown()

    def _bounded(self, node: Node) -> Any:
        name, out = _name(node), _tensors(node)[0]
        if name == "detach":
            return self._values[node.all_input_nodes[0]]
        if not isinstance(node.target, OpOverload) or (name in MOVES and _written(node)):
            raise Unbounded
        arguments = {key: _resolved(value, self._values) for key, value in _bound(node).items()}
        varying = any(isinstance(v, (Interval, Undecided)) for v in _flat(arguments.values()))
        if name in MAKES or (not varying and _exact(node)):
            made = node.target(**{key: v.low if isinstance(v, Interval) else v for key, v in arguments.items()})
            return made.to("cpu", out.dtype) if isinstance(made, Tensor) else made
        if name not in RULES or out.is_complex():
            raise Unbounded
        arithmetic = Arithmetic.of(out.dtype if out.is_floating_point() else torch.float64, out.device)
        value = RULES[name](Op(name, node.target, arguments, arithmetic))
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
        """After an operation in place: the same tensor has the new value; other views of its memory are not followed."""
        for other in [n for n in self._values if n is not node and self._storages[n] & self._storages[target]]:
            if _geometry(other) == _geometry(target):
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
                    self._add_site(node, self._names[module] or type(module).__name__, type(module).__name__)
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

    def _layouts_after(self, node: Node) -> list[Layout | None]:
        """Where the units of each tensor lie that a node gives; see :mod:`undying.units.rules`."""
        if node.target is operator.getitem:
            source, index = node.args
            return [self._layouts[source][index]]  # type: ignore[index]
        layouts = {
            id(t): layout
            for n in node.all_input_nodes
            for t, layout in zip(_tensors(n), self._layouts[n], strict=True)
            if not isinstance(self._values[n], Tensor)
        }
        args, kwargs = torch.fx.map_arg(
            (node.args, dict(node.kwargs)),
            lambda n: self._constants.get(
                n.name, n.meta.get("val")
            ),  # parameters as such: a product with one is told by it
        )
        follow = following(_name(node), args, kwargs, lambda t: layouts.get(id(t)))
        return [follow(t) for t in _tensors(node)]


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


def _storages(node: Node) -> set[int]:
    """The memory a node's tensors lie in; views and results of operations in place share it."""
    return {StorageWeakRef(t.untyped_storage()).cdata for t in _tensors(node)}


def _geometry(node: Node) -> list[Any]:
    return [(t.storage_offset(), t.shape, t.stride(), t.dtype) for t in _tensors(node)]
