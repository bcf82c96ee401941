"""Which units a user means: by state, by number or by certificate, checked against the network as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from undying.census.census import census as count
from undying.census.results import Census
from undying.certify.certificate import Certificate
from undying.treat.probe import Probe, Seen

Units = str | Mapping[str, Tensor | Sequence[int] | Sequence[bool]] | Certificate

STATES = ("silent", "dead", "dormant")
_FIRES = "it fires on the probe: the weights or the data are others now"


class Choice:
    """Units of the sites of a network.

    Args:
        units: as :func:`undying.recycle_` takes them.
        census: says who is in a state; None: one of the probe is taken.
        probe: of the network.
        seen: what a run over it showed.

    Raises:
        ValueError: the census or certificate is not of this network, or a site or unit is not there.
        TypeError: an argument is of another kind.
    """

    def __init__(self, units: Units, census: Census | None, probe: Probe, seen: Seen) -> None:
        self.probe, self.seen = probe, seen
        self.refused: dict[str, dict[int, str]] = {}
        """Of those chosen: why they are left, by site and unit."""
        self.none = "nothing to recycle: units names none"
        """What to say if no unit is chosen."""
        self.units = self._chosen(units, census)
        """bool over units, by site."""

    def _chosen(self, units: Units, census: Census | None) -> dict[str, Tensor]:
        if isinstance(units, Certificate):
            check_certificate(units, type(self.probe.model).__name__, self.seen)
            self.none = "nothing to recycle: the certificate has no dead units"
            return self._still({site.name: site.dead for site in units.sites if site.dead is not None})
        if isinstance(units, Mapping):
            return {name: self._mask(name, given) for name, given in units.items()}
        if not isinstance(units, str):
            raise TypeError(f"units must be one of {', '.join(STATES)}, a dict by site or a certificate, not {units!r}")
        if units not in STATES:
            raise ValueError(
                f"units must be one of {', '.join(STATES)}, a dict by site or a certificate, not {units!r}"
            )
        return self._in_state(units, census)

    def _in_state(self, state: str, census: Census | None) -> dict[str, Tensor]:
        if census is None:
            probe = self.probe
            census = count(probe.model, probe.batches, method=probe.method, inputs=probe.inputs, axes=probe.axes)
        elif not isinstance(census, Census):
            raise TypeError(f"census must be an undying.Census or None, not {census!r}; give data as probe=")
        check_census(census, self.seen)
        masks = {site.name: getattr(site, state) for site in census.sites if getattr(site, state) is not None}
        if not masks:
            more = ": count with gradients=True" if state == "dead" else ""
            raise ValueError(
                f"the census does not say of any site which units are {state}{more}{self._not_counted(census)}"
            )
        self.none = f"nothing to recycle: no unit of {len(masks)} sites is {state}{self._not_counted(census)}"
        return masks if state == "dormant" else self._still(masks)

    def _not_counted(self, census: Census) -> str:
        """Sites that the user can have counted."""
        if not census.ambiguous:
            return ""
        return f"; not counted: {', '.join(census.ambiguous)}, of which nothing decides the axis of the units; name it in axes="

    def _still(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``masks``; those that fire on the probe are refused."""
        for name, mask in masks.items():
            fires = (mask & (self.seen.fired[name] > 0)).nonzero().flatten().tolist()
            self.refused[name] = dict.fromkeys(fires, _FIRES)
        return dict(masks)

    def _mask(self, name: str, given: Any) -> Tensor:
        if name in self.seen.ambiguous:
            shape = self.seen.ambiguous[name]
            raise ValueError(f"nothing decides which axis of site {name!r}, {shape}, holds the units; name it in axes=")
        if name not in self.seen.fired:
            sites = ", ".join(self.seen.fired) or "none, as no activation that is known was called"
            outputs = "; outputs of a census are counted, not recycled: name the activation that makes them"
            raise ValueError(f"units names {name!r}, which is no site; sites: {sites}{outputs}")
        many = len(self.seen.fired[name])
        needed = f"a bool mask of shape ({many},) or numbers of units, each once, are needed"

        def problem(what: str) -> str:
            return f"units gives site '{name}' {what}: {needed}"

        if isinstance(given, (list, tuple)) and len({isinstance(value, bool) for value in given}) > 1:
            raise TypeError(problem(f"both bools and numbers, {given!r}"))
        try:
            values = torch.as_tensor(list(given) if isinstance(given, range) else given).cpu()
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(problem(repr(given))) from None
        if values.dim() != 1:
            raise ValueError(problem(f"values of shape {tuple(values.shape)}"))
        if values.dtype == torch.bool:
            if len(values) != many:
                raise ValueError(f"units gives {len(values)} values for site {name!r}, which has {many} units")
            return values.clone()
        if values.dtype == torch.uint8:  # of old a mask
            raise TypeError(problem("a uint8 tensor, which may be either"))
        if len(values) and (values.is_floating_point() or values.is_complex()):
            raise TypeError(problem(f"values of {values.dtype}"))
        numbers = values.long()
        for number in numbers[(numbers < 0) | (numbers >= many)].tolist():
            raise ValueError(f"units gives {number} for site {name!r}, which has the units 0 to {many - 1}")
        again, times = numbers.unique(return_counts=True)
        for number in again[times > 1].tolist():
            raise ValueError(problem(f"{number} more than once"))
        mask = torch.zeros(many, dtype=torch.bool)
        mask[numbers] = True
        return mask


def check_census(census: Census, seen: Seen) -> None:
    """Whether it is of the network of which ``seen`` is a run.

    Raises:
        ValueError: it is not.
    """
    _check_sites("census", [(site.name, site.kind, site.units) for site in census.sites], seen)
    for site in census.sites:
        if len({site.layer, seen.layers[site.name]} - {None}) > 1:
            raise ValueError(
                f"site {site.name!r} is behind layer {site.layer} in the census and {seen.layers[site.name]} on the probe, which "
                "makes other calls: make the census of batches that begin with the probe's"
            )
    missing = seen.fired.keys() - census.keys() - census.left_out.keys()
    if missing:
        raise ValueError(
            f"the network has a site {min(missing)!r}, which the census does not; make the census again, of this network as it is"
        )


def check_certificate(certificate: Certificate, model: str, seen: Seen) -> None:
    """The same of a certificate.

    Args:
        certificate: it.
        model: type of the network.
        seen: a run of the network.
    """
    if certificate.model != model:
        raise ValueError(f"the certificate is of a {certificate.model}, and the network is a {model}; certify this one")
    _check_sites("certificate", [(site.name, site.kind, site.units) for site in certificate.sites], seen)


def _check_sites(kind: str, sites: list[tuple[str, str, int | None]], seen: Seen) -> None:
    again = f"; make the {kind} again, of this network as it is"
    for name, type_name, units in sites:
        if name not in seen.fired:
            raise ValueError(f"the {kind} has a site {name!r}, which the network does not have{again}")
        now, have = seen.kinds[name], len(seen.fired[name])
        if now != type_name:
            raise ValueError(f"site {name!r} is a {type_name} in the {kind} and a {now} now: converted since{again}")
        if units not in (None, have):
            raise ValueError(f"site {name!r} has {units} units in the {kind} and {have} in the network{again}")
