"""One site of a census: what was counted of its units."""

from __future__ import annotations

import html
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from undying._base.equal import Equal
from undying._base.text import ranges
from undying.census.views import STATES, frame_of_units, plot_units


@dataclass(frozen=True, eq=False)
class Site(Equal):
    """One call of an activation in the forward pass. The tensors have one entry a unit, on the CPU.

    *Silent* is said of activations that are flat or falling off below 0 (ReLU and its kin, GELU, SiLU, SUGAR), and
    *saturated* of those that are flat at an end (ReLU6 above, tanh, sigmoid, hardtanh and hardsigmoid on both sides).
    What is not said of a site is None.
    """

    name: str
    """Qualified module name, with ``#2`` for the module's second call."""
    kind: str
    """Type of the activation."""
    units: int
    samples: int | None
    """N: samples that the values are of, or fewer where a network does not show it; None where nothing tells."""
    values: int
    """Values seen of each unit, over samples and positions."""
    fired: Tensor
    """int64: how many of the values were > 0."""
    nonfinite: Tensor
    """int64: how many of the values were infinite or NaN."""
    peak: Tensor
    """float64: largest pre-activation."""
    mean_abs: Tensor
    """float64: mean of \\|h\\|, h the post-activation."""
    zero: Tensor
    """float64: share of post-activations that are exactly 0 (sparsity)."""
    score: Tensor
    """float64: dormancy score, mean \\|h\\| of the unit over its mean over the site's units (Sokar et al. 2023); NaN where
    that is not finite."""
    silent: Tensor | None
    """bool: the pre-activation was <= 0 in all values."""
    dead: Tensor | None
    """bool: silent (saturated, where silent is not said), and the gradient of the loss at the pre-activation was exactly
    0 at all of them. None where that is unknown: without ``gradients=True``, for an activation whose derivative there
    is not 0."""
    dormant: Tensor
    """bool: score <= tau."""
    low: Tensor | None = None
    """int64: how many values lay at the lower end of a bounded activation's range."""
    high: Tensor | None = None
    """int64: how many lay at the upper end."""
    saturated: Tensor | None = None
    """bool: all values lay at an end."""
    unused: Tensor | None = None
    """bool: every outgoing weight is 0, so that nothing downstream depends on the unit. None where the output goes to
    anything else than linear and convolution layers."""
    layer: str | None = None
    """Name of the layer that makes the units: row, or output channel, j of its weight makes unit j, through norms, pooling
    and reshapes. The name of the weight where that is no layer's, and None where no layer or several make them."""
    line: str | None = None
    """``file:line`` of the user's code that calls it first; None where there is none, as in an ``nn.Sequential``."""

    @property
    def label(self) -> str:
        """The site behind the layer that makes its units: ``conv2 -> relu#2``; the name alone where there is no layer."""
        return self.name if self.layer is None else f"{self.layer} -> {self.name}"

    def __str__(self) -> str:
        """Two lines, and which units are in which state.

        >>> import torch, undying
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> _ = torch.nn.init.constant_(net[0].bias, 100.0)
        >>> _ = torch.nn.init.constant_(net[0].bias[2:5], -100.0)
        >>> print(undying.census(net, torch.ones(30, 4))["1"])  # doctest: +ELLIPSIS
        0 -> 1: ReLU, 8 units, N = 30
        firing ...
        silent 3: 2-4
        dead 3: 2-4
        dormant 3: 2-4
        """
        where = f", {self.line}" if self.line else ""
        number = "unknown" if self.samples is None else str(self.samples)
        lines = [
            f"{self.label}: {self.kind}, {self.units} units, N = {number}{where}",
            f"firing {float(self.firing_rate.mean()):.3f} of the values, peak {float(self.peak.max()):.3g}",
        ]
        for state in STATES:
            units = getattr(self, state)
            if units is not None and (count := int(units.sum())):
                lines.append(f"{state} {count}: {numbers(units)}")
        return "\n".join(lines)

    __repr__ = __str__

    def __len__(self) -> int:
        return self.units

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row a unit: what was counted, and a column a state that is said of the site."""
        return frame_of_units(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw how often each unit fires, with matplotlib, into ``ax`` or a new figure. Returns the axes."""
        return plot_units(self, ax)

    @property
    def firing_rate(self) -> Tensor:
        """float64: share of values > 0."""
        return self.fired.double() / self.values

    @property
    def firing_rate_bound(self) -> float | None:
        """Upper 95 % bound on the share of samples in which a silent unit fires anywhere, 1 - 0.05^(1/N), about 3 / N.

        It holds for samples drawn independently of each other. Positions do not count: those of one sample are alike.
        None where the number of samples is not known.
        """
        return -math.expm1(math.log(0.05) / self.samples) if self.samples else None


_SHOWN = 12
"""Runs of numbers of units that are printed."""


def numbers(units: Tensor) -> str:
    """Which units a mask has, as runs.

    >>> numbers(torch.tensor([True, False, True, True, True]))
    '0, 2-4'
    """
    said = ranges(units.nonzero().flatten().tolist())
    return ", ".join([*said[:_SHOWN], *(["..."] if len(said) > _SHOWN else [])])


def labelled(sites: Sequence[Site]) -> list[str]:
    """A head, then the name of each site behind its layer's, aligned by the arrows."""
    layers = [_beside(site) for site in sites]
    if not any(layers):
        return ["site", *(site.name for site in sites)]
    width = max(map(len, ["layer", *layers]))
    names = [("->" if layer else "  ", site.name) for layer, site in zip(layers, sites, strict=True)]
    return [
        f"{layer:>{width}} {arrow} {name}"
        for layer, (arrow, name) in zip(["layer", *layers], [("->", "site"), *names], strict=True)
    ]


def _beside(site: Site) -> str:
    """The layer's name, from its dot on where it is in the same module."""
    module = site.name.rpartition(".")[0] + "."
    layer = site.layer or ""
    return layer[len(module) - 1 :] if module != "." and layer.startswith(module) else layer


def cell(site: Site, state: str) -> str:
    """How many units are in a state, for a table."""
    value = getattr(site, state)
    if value is not None:
        return str(int(value.sum()))
    return "unknown" if state == "dead" else "-"


def together(a: Site, b: Site, tau: float) -> Site:
    """One site on two data sets. Silent on both is silent; then dead on both is dead."""
    values = a.values + b.values
    mean_abs = (a.mean_abs * a.values + b.mean_abs * b.values) / values
    score = dormancy(mean_abs)
    return replace(
        a,
        samples=None if a.samples is None or b.samples is None else a.samples + b.samples,
        values=values,
        fired=a.fired + b.fired,
        nonfinite=a.nonfinite + b.nonfinite,
        peak=torch.maximum(a.peak, b.peak),
        mean_abs=mean_abs,
        zero=(a.zero * a.values + b.zero * b.values) / values,
        score=score,
        silent=_both(operator.and_, a.silent, b.silent),
        dead=_both(operator.and_, a.dead, b.dead),
        dormant=score <= tau,
        low=_both(operator.add, a.low, b.low),
        high=_both(operator.add, a.high, b.high),
        saturated=_both(operator.and_, a.saturated, b.saturated),
        unused=_both(operator.and_, a.unused, b.unused),
    )


def _both(operation: Callable[[Tensor, Tensor], Tensor], a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return None if a is None or b is None else operation(a, b)


def dormancy(mean_abs: Tensor) -> Tensor:
    """Sokar et al. 2023, eq. 1; 0 for every unit of a site whose outputs are all 0, and NaN where one is not finite."""
    mean = mean_abs.mean()
    if not mean.isfinite():
        return torch.full_like(mean_abs, torch.nan)
    return mean_abs / mean if mean != 0 else torch.zeros_like(mean_abs)


#: What a site holds of each unit.
_DTYPES = {
    "fired": torch.int64,
    "nonfinite": torch.int64,
    "peak": torch.float64,
    "mean_abs": torch.float64,
    "zero": torch.float64,
    "score": torch.float64,
    "silent": torch.bool,
    "dead": torch.bool,
    "dormant": torch.bool,
    "low": torch.int64,
    "high": torch.int64,
    "saturated": torch.bool,
    "unused": torch.bool,
}
#: Of these a site may say nothing.
_UNSAID = ("silent", "dead", "low", "high", "saturated", "unused")


def plain(value: Any) -> Any:
    """As JSON can hold it: lists for tensors; ``nan``, ``inf`` and ``-inf`` are strings."""
    if isinstance(value, Tensor):
        return value.tolist() if bool(value.isfinite().all()) else plain(value.tolist())
    if isinstance(value, list):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_site(content: Mapping[str, Any], version: int) -> Site:
    """What ``to_dict`` gave for a site, checked."""
    name, units = content["name"], content["units"]
    samples, values = (None, content["samples"]) if version < 3 else (content["samples"], content["values"])
    layer = content.get("layer")
    numbers = (units, values) if samples is None else (units, values, samples)
    if not isinstance(name, str) or not isinstance(layer, str | None) or any(type(n) is not int for n in numbers):
        raise ValueError(f"site {name!r}: {units!r} units, {values!r} values and {samples!r} samples")
    said = {key: content.get(key) if key in _UNSAID else content[key] for key in _DTYPES}
    columns: dict[str, Any] = {
        key: None if values is None and key in _UNSAID else read_column(key, values, units, _DTYPES[key])
        for key, values in said.items()
    }
    line = content.get("line")
    return Site(
        name=name,
        kind=str(content["kind"]),
        units=units,
        samples=samples,
        values=values,
        layer=layer,
        line=line if isinstance(line, str) else None,
        **columns,
    )


def read_column(key: str, values: Any, units: int, dtype: torch.dtype) -> Tensor:
    """One number a unit, as ``plain`` gave them, checked."""
    types = {torch.int64: (int,), torch.bool: (bool,), torch.float64: (float, int, str)}[dtype]
    if not isinstance(values, list) or len(values) != units or any(type(v) not in types for v in values):
        raise ValueError(f"{key} does not hold {dtype} for each of {units} units")
    return torch.tensor([float(v) if isinstance(v, str) else v for v in values], dtype=dtype)
