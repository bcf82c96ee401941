"""Who always gives the same, by a census, a certificate, or what the data show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undying.activations.known import ends, is_flat_below_zero, is_rectifier
from undying.census.batches import Inputs
from undying.census.fingerprint import Fingerprint, weights_of
from undying.census.results import Census
from undying.census.site import Site
from undying.certify.certificate import Certificate
from undying.treat.choice import check_census, check_certificate
from undying.treat.probe import Probe, Seen
from undying.treat.prune.follow import CutFlow

_FLAT_ENDS = (nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid)
"""Exactly constant at the ends of their range; of tanh and sigmoid "saturated" says within 1 %."""

Ranges = Mapping[str, tuple[Tensor, Tensor]]


def check_weights(given: Any, model: nn.Module) -> None:
    """Whether evidence is of the weights that a network has, as far as either says.

    Raises:
        ValueError: it is of others.
        TypeError: it is neither a census nor a certificate.
    """
    if not isinstance(given, Census | Certificate):
        raise TypeError(f"evidence must be an undying.Census or an undying.Certificate, not {given!r}")
    now = weights_of(model)
    if None not in (given.weights, now) and given.weights != now:
        what, again = ("census", "count") if isinstance(given, Census) else ("certificate", "certify")
        raise ValueError(f"the {what} is of other weights than the network has now; {again} again; nothing was changed")


class Evidence:
    """For the units of each site: whether they are known to be constant, and why those that are silent or saturated are
    not.

    Args:
        given: what says so.
        model: the network.
        example: a run of it that was followed.
        shown: of the data; None without.

    Raises:
        ValueError: it is of another network.
    """

    def __init__(self, given: Census | Certificate, model: nn.Module, example: Seen, shown: Shown | None) -> None:
        self._model, self._types = model, example.types
        self.known: dict[str, Tensor] = {}
        """bool over units, by site."""
        self.refused: dict[str, dict[int, str]] = {}
        assert isinstance(example.flow, CutFlow)
        if isinstance(given, Census):
            check_census(given, example)
            same_data = shown is not None and given.probe is not None and shown.fingerprint == given.probe
            for site in given.sites:
                self._counted(site, shown.ranges.get(site.name) if same_data and shown is not None else None)
        else:
            check_certificate(given, type(model).__name__, example)
            for proved in given.sites:
                if proved.upper is not None and proved.lower is not None:
                    self._proved(proved.name, proved.upper, proved.lower)
        self._check(example.flow.ranges, "the example")
        self._check({} if shown is None else shown.ranges, "the data")

    def _counted(self, site: Site, shown: tuple[Tensor, Tensor] | None) -> None:
        kind = self._types[site.name]
        none = torch.zeros(site.units, dtype=torch.bool)
        silent = none if site.silent is None else site.silent
        saturated = none if site.saturated is None else site.saturated
        at_an_end = (
            none if site.low is None or site.high is None else (site.low == site.values) | (site.high == site.values)
        )
        known = (silent if _is_0_below_0(kind) else none) | (at_an_end if kind in _FLAT_ENDS else none)
        if shown is not None:
            known = known | (shown[0] == shown[1]) & (silent | saturated)
        self._take(site.name, kind, known, silent, saturated)

    def _proved(self, name: str, upper: Tensor, lower: Tensor) -> None:
        kind = self._types[name]
        module = dict(self._model.named_modules()).get(name.partition("#")[0])
        bounds = ends(kind, module, (), {}) if kind in _FLAT_ENDS and type(module) is kind else None
        saturated = (
            torch.zeros_like(upper, dtype=torch.bool) if bounds is None else (upper <= bounds[0]) | (lower >= bounds[1])
        )
        dead = upper <= 0
        self._take(name, kind, (dead if _is_0_below_0(kind) else saturated) | saturated, dead, saturated)

    def _take(self, name: str, kind: type[nn.Module], known: Tensor, silent: Tensor, saturated: Tensor) -> None:
        self.known[name] = known
        why = f"a silent {kind.__name__} still gives something: it is not constant below 0"
        self._refuse(name, silent & ~known & torch.tensor(not _is_0_below_0(kind)), why)
        self._refuse(
            name,
            saturated & ~known,
            f"a saturated {kind.__name__} is near an end of its range, or at both, and not constant",
        )

    def _check(self, ranges: Ranges, where: str) -> None:
        for name, (low, high) in ranges.items():
            moves = self.known.get(name, torch.zeros(len(low), dtype=torch.bool)) & (low != high)
            self._refuse(name, moves, f"it is not constant on {where}: the weights or the data are others now")
            if name in self.known:
                self.known[name] = self.known[name] & ~moves

    def _refuse(self, name: str, units: Tensor, why: str) -> None:
        by_unit = self.refused.setdefault(name, {})
        by_unit.update(dict.fromkeys(units.nonzero().flatten().tolist(), why))


def _is_0_below_0(kind: type[nn.Module]) -> bool:
    return is_rectifier(kind) or is_flat_below_zero(kind)


class Shown:
    """What a run over data shows of the sites, batch by batch."""

    def __init__(self, model: nn.Module, data: Iterable[Any], inputs: Inputs | None, axes: Mapping[str, int]) -> None:
        fingerprint = Fingerprint()
        self.ranges: dict[str, tuple[Tensor, Tensor]] = {}
        """By site: smallest and largest value, over units."""
        for batch in data:
            fingerprint.add(batch)
            seen = Probe(model, [batch], inputs, axes, CutFlow).look()
            assert isinstance(seen.flow, CutFlow)
            for name, (low, high) in seen.flow.ranges.items():
                before = self.ranges.get(name, (low, high))
                self.ranges[name] = torch.minimum(before[0], low), torch.maximum(before[1], high)
        self.fingerprint = fingerprint.read()
