"""What a census found: sites, units and the evidence; tables, JSON, sums and differences."""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from undying._base import text
from undying._base.files import write_named
from undying.units.unseen import Unrecognised


@dataclass(frozen=True)
class Site:
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


@dataclass(frozen=True)
class Census(Mapping[str, Site]):
    """The sites of a network in call order, with what was counted; a mapping from their names to them."""

    sites: list[Site]
    tau: float
    """Dormancy threshold."""
    loss: str | None
    """Name of the loss whose gradient decided ``dead``; None without ``gradients=True``."""
    probe: str | None
    """Fingerprint of the data: the same for the same samples in any order and batching. None for data that hold objects
    whose content is not known, and for the batches of a training step, which are not fingerprinted."""
    ambiguous: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Sites that were not counted, since nothing decides which axis holds their units, with the shape of their input;
    ``census(..., axes={name: axis})`` counts them."""
    unrecognised: dict[str, Unrecognised] = field(default_factory=dict)
    """Places that act as an activation, or may, and were not counted: ``x.clamp(min=0)``, scripted parts, an activation that
    is not registered. Shares are of the counted units alone."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Sites that were not counted, with the reason: the user skips them, or the number of units changes between calls."""

    def __getitem__(self, name: str) -> Site:
        for site in self.sites:
            if site.name == name:
                return site
        if name in self.ambiguous:
            raise KeyError(f"site {name!r} was not counted: {_ask_axis(name, self.ambiguous[name])}")
        if name in self.unrecognised:
            raise KeyError(f"{name!r} was not counted, as it is not recognised: {self.unrecognised[name]}")
        if name in self.left_out:
            raise KeyError(f"site {name!r} was not counted: {self.left_out[name]}")
        raise KeyError(f"no site {name!r}; sites: {', '.join(site.name for site in self.sites)}")

    def __iter__(self) -> Iterator[str]:
        return (site.name for site in self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def units(self) -> int:
        """Units over all sites."""
        return sum(site.units for site in self.sites)

    @property
    def silent_fraction(self) -> float | None:
        """Share of silent units, over the sites of which silent is said; None without any."""
        return _share([(site.silent, site.units) for site in self.sites if site.silent is not None])

    @property
    def saturated_fraction(self) -> float | None:
        """Share of saturated units, over the sites of which saturated is said; None without any."""
        return _share([(site.saturated, site.units) for site in self.sites if site.saturated is not None])

    @property
    def dead_fraction(self) -> float | None:
        """Share of all units that are dead; None where any site's is unknown."""
        return _share([(site.dead, site.units) for site in self.sites])

    @property
    def dormant_fraction(self) -> float | None:
        """Share of all units that are dormant; None without any site."""
        return _share([(site.dormant, site.units) for site in self.sites])

    @property
    def sparsity(self) -> float | None:
        """Share of post-activations that are exactly 0, over all values at all sites; None without any."""
        values = sum(site.units * site.values for site in self.sites)
        return sum(float(site.zero.sum()) * site.values for site in self.sites) / values if values else None

    def __add__(self, other: Census) -> Census:
        """The census of both data sets together, for instance of two ranks' shares; counts add.

        Raises:
            ValueError: the censuses are of different sites, thresholds or losses.
        """
        left_out = self.left_out | other.left_out
        ours, theirs = ([site for site in census.sites if site.name not in left_out] for census in (self, other))
        settings = [(census.tau, census.loss) for census in (self, other)]
        if settings[0] != settings[1] or not ours or _layout(ours) != _layout(theirs):
            raise ValueError("censuses add only with the same sites, tau and loss")
        probes = (self.probe, other.probe)
        probe = None if None in probes else f"{sum(int(p or '', 16) for p in probes) % 2**64:016x}"
        sites = [_together(a, b, self.tau) for a, b in zip(ours, theirs, strict=True)]
        ambiguous, unrecognised = self.ambiguous | other.ambiguous, self.unrecognised | other.unrecognised
        return Census(sites, self.tau, self.loss, probe, ambiguous, unrecognised, left_out)

    def all_reduce(self, group: torch.distributed.ProcessGroup | None = None) -> Census:
        """The census of all ranks' shares of the data together, the same on every rank; call it on every rank. Sites with
        another number of units on another rank are left out.

        Args:
            group: process group of ``torch.distributed``; default: the world.
        """
        shares: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(shares, self.to_dict(), group=group)
        return functools.reduce(operator.add, _even([Census.from_dict(share) for share in shares]))

    def table(self) -> str:
        """A line a site, as text; ``-`` is what is not said of an activation."""
        states = ["silent", "dead", "dormant"]
        states += [name for name in ("saturated", "unused") if any(getattr(s, name) is not None for s in self.sites)]
        layer = ["layer"] if any(site.layer is not None for site in self.sites) else []
        header = ("site", *layer, "kind", "units", "N", *states, "firing rate")
        rows = [
            (
                site.name,
                *(site.layer or "-" for _ in layer),
                site.kind,
                str(site.units),
                "-" if site.samples is None else str(site.samples),
                *(_cell(site, state) for state in states),
                f"{float(site.firing_rate.mean()):.3f}",
            )
            for site in self.sites
        ]
        lines = [text.table([header, *rows], left=2 + len(layer))]
        lines += [f"{name}: not counted, {_ask_axis(name, shape)}" for name, shape in self.ambiguous.items()]
        lines += [f"{name}: not recognised, so not counted: {place}" for name, place in self.unrecognised.items()]
        lines += [f"{name}: left out, {reason}" for name, reason in self.left_out.items()]
        lines += [
            f"{site.name}: {int(site.nonfinite.sum())} pre-activations are infinite or NaN, in "
            f"{int((site.nonfinite > 0).sum())} units"
            for site in self.sites
            if site.nonfinite.any()
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def since(self, earlier: Census, *, other_probe: bool = False) -> dict[str, Changes]:
        """Units that died (fire no more) and revived (fire again) since ``earlier``, by site name.

        Args:
            earlier: a census of the same network.
            other_probe: compare although the data differ, so that a change may be the data's.

        Raises:
            ValueError: the data differ, or the sites do. Sites that either census left out are not compared, and calls
                that ``convert_`` has replaced are the sites that they were.
        """
        if (self.probe is None or self.probe != earlier.probe) and not other_probe:
            what = (
                "the later census's data were not fingerprinted, so they may be others"
                if self.probe is None
                else f"the censuses saw different data (probe {self.probe}, earlier {earlier.probe})"
            )
            raise ValueError(f"{what}; count on the same tensors, or pass other_probe=True and read changes with care")
        uncounted = {*self.left_out, *self.ambiguous, *earlier.left_out, *earlier.ambiguous}
        ours, theirs = ([site for site in census.sites if site.name not in uncounted] for census in (self, earlier))
        renamed = {site.name for site in ours} ^ {site.name for site in theirs}
        if len(ours) != len(theirs) or not all(_is_same(*pair, renamed) for pair in zip(ours, theirs, strict=True)):
            raise ValueError(f"the censuses have different sites: {_shown(ours)} and earlier {_shown(theirs)}")
        return {
            now.name: Changes(
                died=now.silent & ~then.silent, revived=then.silent & ~now.silent, still=then.silent & now.silent
            )
            for now, then in zip(ours, theirs, strict=True)
            if now.silent is not None and then.silent is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; NaN and infinities are the strings ``nan``, ``inf`` and ``-inf``."""
        return {
            "format": _FORMAT,
            "tau": self.tau,
            "loss": self.loss,
            "probe": self.probe,
            "ambiguous": {name: list(shape) for name, shape in self.ambiguous.items()},
            "unrecognised": {name: asdict(place) for name, place in self.unrecognised.items()},
            "left_out": self.left_out,
            "sites": [{f.name: _plain(getattr(site, f.name)) for f in fields(Site)} for site in self.sites],
        }

    def to_json(self) -> str:
        """``to_dict`` as text, as ``save`` writes it."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Census:
        """The census that ``to_dict`` gave.

        Raises:
            ValueError: a newer version made it, or it is no census.
        """
        try:
            version = content.get("format")
            if not isinstance(version, int) or version > _FORMAT:
                raise ValueError(
                    f"this census has format {version}, and this undying reads up to {_FORMAT}; upgrade undying"
                )
            sites = [_site(site, version) for site in content["sites"]]
            ambiguous = {name: tuple(shape) for name, shape in content.get("ambiguous", {}).items()}
            unrecognised = {name: Unrecognised(**place) for name, place in content.get("unrecognised", {}).items()}
            left_out = {str(name): str(reason) for name, reason in content.get("left_out", {}).items()}
            tau, loss, probe = float(content["tau"]), content["loss"], content["probe"]
            return cls(sites, tau, loss, probe, ambiguous, unrecognised, left_out)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"this does not hold a census: {error!r}") from None

    def save(self, path: str | Path) -> None:
        """Write JSON, beside and renamed, so that ``path`` holds the old census or the new one."""
        write_named(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Census:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is no census, is damaged, or was written by a newer version.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not hold a census: {error!r}") from None
        try:
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Changes:
    """Units of one site in two censuses: bool tensors over units."""

    died: Tensor
    """Fired in the earlier census, silent in the later."""
    revived: Tensor
    """Silent in the earlier, fired in the later."""
    still: Tensor
    """Silent in both. If the earlier is of the network as initialised: silent from the start."""


#: 1 had neither ends, unused units nor ambiguous sites; until 3 the values were called samples, and nothing was left out or
#: unrecognised. What a file does not say is None.
_FORMAT = 3
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


def _layout(sites: Sequence[Site]) -> list[tuple[str, str, int]]:
    return [(site.name, site.kind, site.units) for site in sites]


def _shown(sites: Sequence[Site]) -> list[tuple[str, int]]:
    return [(site.name, site.units) for site in sites]


def _is_same(now: Site, then: Site, renamed: Collection[str]) -> bool:
    """Whether two sites, at the same place in the order of calls, are one; its name may be another after ``convert_``."""
    if now.units != then.units or now.name == then.name:
        return now.units == then.units
    owners = [site.name.rpartition(".")[0] for site in (now, then)]
    layers = {site.layer for site in (now, then) if site.layer is not None}
    return {now.name, then.name} <= set(renamed) and owners[0] == owners[1] and len(layers) < 2


def _even(shares: Sequence[Census]) -> list[Census]:
    """Without the sites whose number of units is not the same in all."""
    units: dict[str, set[int]] = {}
    for name, site in itertools.chain.from_iterable(share.items() for share in shares):
        units.setdefault(name, set()).add(site.units)
    uneven = {
        name: f"its input had {' and '.join(map(str, sorted(seen)))} units on different ranks"
        for name, seen in units.items()
        if len(seen) > 1
    }
    return [replace(share, left_out=share.left_out | uneven) for share in shares]


def _share(counted: list[tuple[Tensor | None, int]]) -> float | None:
    states = [state for state, _ in counted if state is not None]
    if not counted or len(states) < len(counted):
        return None
    return sum(int(state.sum()) for state in states) / sum(units for _, units in counted)


def _cell(site: Site, state: str) -> str:
    value = getattr(site, state)
    if value is not None:
        return str(int(value.sum()))
    return "unknown" if state == "dead" else "-"


def _ask_axis(name: str, shape: tuple[int, ...]) -> str:
    return f"nothing decides which axis of its {shape} input holds the units; name it, for example axes={{{name!r}: 1}}"


def _together(a: Site, b: Site, tau: float) -> Site:
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


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [v if not isinstance(v, float) or abs(v) < float("inf") else str(v) for v in value.tolist()]
    return value


def _site(content: Mapping[str, Any], version: int) -> Site:
    """What ``to_dict`` gave for a site, checked."""
    name, units = content["name"], content["units"]
    samples, values = (None, content["samples"]) if version < 3 else (content["samples"], content["values"])
    layer = content.get("layer")
    numbers = (units, values) if samples is None else (units, values, samples)
    if not isinstance(name, str) or not isinstance(layer, str | None) or any(type(n) is not int for n in numbers):
        raise ValueError(f"site {name!r}: {units!r} units, {values!r} values and {samples!r} samples")
    said = {key: content.get(key) if key in _UNSAID else content[key] for key in _DTYPES}
    columns: dict[str, Any] = {
        key: None if values is None and key in _UNSAID else _column(key, values, units) for key, values in said.items()
    }
    return Site(
        name=name, kind=str(content["kind"]), units=units, samples=samples, values=values, layer=layer, **columns
    )


def _column(key: str, values: Any, units: int) -> Any:
    dtype = _DTYPES[key]
    types = {torch.int64: (int,), torch.bool: (bool,), torch.float64: (float, int, str)}[dtype]
    if not isinstance(values, list) or len(values) != units or any(type(v) not in types for v in values):
        raise ValueError(f"{key} does not hold {dtype} for each of {units} units")
    return torch.tensor([float(v) if isinstance(v, str) else v for v in values], dtype=dtype)
