"""Make units useful again without changing what the network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from undying._base.unwrap import unwrap_model
from undying.census.batches import Inputs
from undying.census.census import census as count
from undying.census.results import Census
from undying.certify.certificate import Certificate
from undying.treat.anew import INITS, Anew
from undying.treat.edits import Edits, changed, check_held, optimizers_in, reset_state, set_at, values_at
from undying.treat.probe import Probe, Seen
from undying.treat.reach import Reach
from undying.treat.recycled import RecycledSite, RecycleReport

__all__ = ["recycle_"]

Units = str | Mapping[str, Tensor | Sequence[int] | Sequence[bool]] | Certificate
Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None

_STATES = ("silent", "dead", "dormant")
_TRIES = 4
"""How often units that do not fire are given other weights."""


def recycle_(
    model: nn.Module,
    optimizer: Optimizers = None,
    census: Census | None = None,
    *,
    probe: Iterable[Any],
    units: Units = "silent",
    init: str = "default",
    tolerance: float = 0.01,
    inputs: Inputs | None = None,
    axes: Mapping[str, int] | None = None,
    generator: torch.Generator | None = None,
) -> RecycleReport:
    """Make units useful again, in place, without changing what the network computes.

    A chosen unit is given new incoming weights, and outgoing weights of 0; what it still said on average moves into the
    bias of what read it. What the optimizer remembers of the changed weights, and their gradients, become 0. Call it
    between ``optimizer.step()`` and the next forward pass.

    What makes a unit and what reads it is found by following one forward pass. A unit whose change would reach anything
    else is refused with the reason, and left as it was.

    Args:
        model: the network; one in DistributedDataParallel or ``torch.compile`` is changed inside. In the former call it on
            every rank: what the first rank does on its probe is done on all.
        optimizer: what trains the network: one, several, or None.
        census: where ``units`` names a state, who is in it; default: a census of the probe.
        probe: batches, as :func:`undying.census` takes them, a few hundred samples. By them the network is followed, and
            its outputs before and after are compared.
        units: ``"silent"``, ``"dead"`` or ``"dormant"``, as the census has it; a dict from names of sites to a bool mask or
            to numbers of units; or a certificate, whose dead units are taken.
        init: the incoming weights. ``"default"``: as the layer's own ``reset_parameters`` draws them; ``"kaiming"``: normal
            with variance 2 / fan_in (He et al. 2015); ``"scaled"``: the same at the mean norm of the layer's other units;
            ``"recenter"``: as they are, and the bias moved so that the unit fires on half of the probe.
        tolerance: largest change of an output on the probe, as a share of the largest absolute output, that a site may
            make. Silent ReLU units change nothing at all.
        inputs, axes: as in :func:`undying.census`.
        generator: of the draws; default: torch's own.

    Returns:
        a :class:`undying.RecycleReport`, a row for each site of which units were chosen.

    Raises:
        ValueError: a census or certificate of another network or from before a conversion; an optimizer that does not
            hold what would change; numbers of units that are not there; no batch. Nothing was changed then.
        TypeError: an argument is not of these kinds.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> print(undying.recycle_(net, optimizer, probe=torch.rand(32, 4)))
    site  kind  units  recycled  refused  change  note
    1     ReLU  8      8         0        0
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, not {init!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, not {tolerance!r}")
    optimizers = optimizers_in(optimizer)
    group = model.process_group if isinstance(model, nn.parallel.DistributedDataParallel) else None
    inner = unwrap_model(model)
    tensors: dict[str, Tensor] = dict([*inner.named_parameters(), *inner.named_buffers()])
    names = {id(tensor): name for name, tensor in tensors.items()}

    def work() -> tuple[RecycleReport, list[tuple[str, Tensor, Tensor]]]:
        # Before the network runs: one that draws is to draw the same each time.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else "cpu"))
        recycling = _Recycling(inner, Probe(inner, probe, inputs, axes or {}), init, tolerance)
        chosen, note = recycling.chosen(units, census)
        if not any(mask.any() for mask in chosen.values()):
            return RecycleReport((), note), []
        report = recycling.run(chosen, seed, lambda targets: check_held(optimizers, targets, lambda t: names[id(t)]))
        return report, [(names[id(t)], at, values_at(t, at)) for t, at in changed(recycling.edits)]

    report, changes = work() if group is None else _on_first_rank(work, group)
    check_held(optimizers, [tensors[name] for name, _, _ in changes], lambda t: names[id(t)])
    for name, at, values in changes:
        set_at(tensors[name], at, values)
    reset_state(optimizers, [(tensors[name], at) for name, at, _ in changes if isinstance(tensors[name], nn.Parameter)])
    return report


class _Recycling:
    """One call: what was seen before, what is refused, what was written."""

    def __init__(self, model: nn.Module, probe: Probe, init: str, tolerance: float) -> None:
        self.model, self.probe, self.init, self.tolerance = model, probe, init, tolerance
        self.before = probe.look()
        assert self.before.flow is not None
        self.flow = self.before.flow
        self.refused: dict[str, dict[int, str]] = {}
        self.change: dict[str, float] = {}
        self.silent: dict[str, Tensor] = {}
        self.edits: list[Edits] = []

    # Which units.

    def chosen(self, units: Units, census: Census | None) -> tuple[dict[str, Tensor], str]:
        """(bool over units by site; what to say if there are none)."""
        if isinstance(units, Certificate):
            self._check_sites(units, [(s.name, s.kind, s.units) for s in units.sites], "certificate")
            masks = {site.name: site.dead for site in units.sites if site.dead is not None}
            return self._still(masks), "nothing to recycle: the certificate has no dead units"
        if isinstance(units, str):
            if units not in _STATES:
                raise ValueError(
                    f"units must be one of {', '.join(_STATES)}, a dict by site or a certificate, not {units!r}"
                )
            return self._in_state(units, census)
        if not isinstance(units, Mapping):
            raise TypeError(
                f"units must be one of {', '.join(_STATES)}, a dict by site or a certificate, not {units!r}"
            )
        return {name: self._mask(name, given) for name, given in units.items()}, "nothing to recycle: units names none"

    def _in_state(self, state: str, census: Census | None) -> tuple[dict[str, Tensor], str]:
        if census is None:
            census = count(self.model, self.probe.batches, inputs=self.probe.inputs, axes=self.probe.axes)
        elif not isinstance(census, Census):
            raise TypeError(f"census must be an undying.Census or None, not {census!r}; give data as probe=")
        self._check_sites(census, [(s.name, s.kind, s.units) for s in census.sites], "census")
        masks = {site.name: getattr(site, state) for site in census.sites if getattr(site, state) is not None}
        if not masks:
            more = ": count with gradients=True" if state == "dead" else ""
            raise ValueError(f"the census does not say of any site which units are {state}{more}")
        note = f"nothing to recycle: no unit of {len(masks)} sites is {state}"
        return (masks if state == "dormant" else self._still(masks)), note

    def _check_sites(self, what: Any, sites: list[tuple[str, str, int | None]], kind: str) -> None:
        again = f"; make the {kind} again, of this network as it is"
        if isinstance(what, Certificate) and what.model != type(self.model).__name__:
            raise ValueError(
                f"the certificate is of a {what.model}, and the network is a {type(self.model).__name__}{again}"
            )
        for name, type_name, units in sites:
            if name not in self.flow.sites:
                raise ValueError(f"the {kind} has a site {name!r}, which the network does not have{again}")
            if self.before.kinds[name] != type_name:
                now = self.before.kinds[name]
                raise ValueError(
                    f"site {name!r} is a {type_name} in the {kind} and a {now} now: converted since{again}"
                )
            if units is not None and units != self.flow.sites[name].count:
                have = self.flow.sites[name].count
                raise ValueError(f"site {name!r} has {units} units in the {kind} and {have} in the network{again}")
        missing = set(self.flow.sites) - {name for name, _, _ in sites}
        if missing and kind == "census":
            raise ValueError(f"the network has a site {sorted(missing)[0]!r}, which the census does not{again}")

    def _still(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those that do not fire on the probe; the others are refused."""
        for name, mask in masks.items():
            fires = mask & (self.before.fired[name] > 0)
            self._refuse(
                {name: dict.fromkeys(_numbers(fires), "it fires on the probe: the weights or the data are others now")}
            )
        return dict(masks)

    def _mask(self, name: str, given: Any) -> Tensor:
        if name in self.before.ambiguous:
            shape = self.before.ambiguous[name]
            raise ValueError(f"nothing decides which axis of site {name!r}, {shape}, holds the units; name it in axes=")
        if name not in self.flow.sites:
            raise ValueError(f"units names {name!r}, which is no site; sites: {', '.join(self.flow.sites)}")
        many = self.flow.sites[name].count
        values = torch.as_tensor(given).cpu().flatten()
        if values.dtype == torch.bool:
            if len(values) != many:
                raise ValueError(f"units gives {len(values)} values for site {name!r}, which has {many} units")
            return values.clone()
        if len(values) and (values.is_floating_point() or values.is_complex()):
            raise TypeError(f"units gives {given!r} for site {name!r}: a bool mask or numbers of units are needed")
        numbers = values.long()
        for number in numbers[(numbers < 0) | (numbers >= many)].tolist():
            raise ValueError(f"units gives {number} for site {name!r}, which has the units 0 to {many - 1}")
        mask = torch.zeros(many, dtype=torch.bool)
        mask[numbers] = True
        return mask

    # What is done to them.

    def run(self, chosen: Mapping[str, Tensor], seed: int, check: Callable[[Iterable[Tensor]], None]) -> RecycleReport:
        """Recycle what can be, and say of the rest why not.

        Args:
            chosen: bool over units, by site.
            seed: of the draws.
            check: is given the parameters and buffers that will change, before any does.
        """
        asked = {name: mask for name, mask in chosen.items() if mask.any()}
        reach = Reach(self.flow)
        while True:
            units, refused, free = reach.choose({name: self._left(name, mask) for name, mask in asked.items()})
            anew = Anew(self.model, reach, free, self.init, seed)
            for name, mask in units.items() if self.init == "recenter" else ():
                refused[name].update(anew.cannot_recenter(name, mask))
            self._refuse(refused)
            if not any(refused.values()):  # what is refused at one site may be needed at another
                break
        if any(mask.any() for mask in units.values()):
            middle = self.probe.check(units).middle if self.init == "recenter" else {}
            edits = anew.edits(units, middle)
            check(edits.targets)
            try:
                self._change(reach, anew, edits, units, middle)
            except BaseException:
                while self.edits:
                    self._take_back()
                raise
        return RecycleReport(tuple(self._row(name, mask) for name, mask in asked.items()))

    def _change(
        self, reach: Reach, anew: Anew, edits: Edits, units: dict[str, Tensor], middle: Mapping[str, Tensor]
    ) -> None:
        """Write ``edits``, which recycle ``units``; where the outputs change, site by site, to say which does it."""
        seen = self._write(edits)
        if seen.change_from(self.before) > 0:
            self._take_back()
            now, most = self.before, self.tolerance * self.before.size
            for group in reach.groups([name for name in units if units[name].any()], units, anew.free):
                part = {name: units[name] for name in group}
                seen = self._write(anew.edits(part, middle))
                change = seen.change_from(now)
                self.change.update(dict.fromkeys(group, change))
                if change <= most:
                    now = seen
                    continue
                self._take_back()
                reason = f"an output would change by {change:.3g}, and tolerance={self.tolerance} allows {most:.3g}"
                self._refuse({name: dict.fromkeys(_numbers(mask), reason) for name, mask in part.items()})
            seen = now
        self._wake(anew, {name: self._left(name, mask) for name, mask in units.items()}, seen)

    def _wake(self, anew: Anew, units: dict[str, Tensor], seen: Seen) -> None:
        """Give units that do not fire other weights: those of the opposite sign, then others."""
        for attempt in range(_TRIES + 1):
            self.silent = {name: mask & (seen.fired[name] == 0) for name, mask in units.items()}
            if attempt == _TRIES or self.init == "recenter" or not any(mask.any() for mask in self.silent.values()):
                return
            edits = Edits()
            # Of what is behind a norm that mixes, or that others read too, the norm's bias alone is there to move.
            rest = anew.without_weights(self.silent)
            if any(mask.any() for mask in rest.values()):
                anew.recenter(edits, rest, self.probe.check(rest).middle)
            if attempt % 2:
                anew.draw(edits, self.silent)
            else:
                anew.mirror(edits, self.silent)
            seen = self._write(edits)

    def _write(self, edits: Edits) -> Seen:
        self.edits.append(edits)
        edits.write()
        return self.probe.check()

    def _take_back(self) -> None:
        self.edits.pop().undo()

    def _refuse(self, reasons: Mapping[str, Mapping[int, str]]) -> None:
        for name, by_unit in reasons.items():
            self.refused.setdefault(name, {}).update(by_unit)

    def _left(self, name: str, mask: Tensor) -> Tensor:
        """Without the units that are refused."""
        mask = mask.clone()
        mask[list(self.refused.get(name, ()))] = False
        return mask

    def _row(self, name: str, asked: Tensor) -> RecycledSite:
        silent = self.silent.get(name, torch.zeros(0, dtype=torch.bool))
        return RecycledSite(
            name,
            self.before.kinds[name],
            len(asked),
            recycled=tuple(_numbers(self._left(name, asked))),
            refused=dict(sorted(self.refused.get(name, {}).items())),
            silent=tuple(_numbers(silent)),
            change=self.change.get(name, 0.0),
        )


def _numbers(mask: Tensor) -> list[int]:
    numbers: list[int] = mask.nonzero().flatten().tolist()
    return numbers


_T = TypeVar("_T")


def _on_first_rank(work: Callable[[], _T], group: torch.distributed.ProcessGroup) -> _T:
    """What ``work`` gives on the first rank of a group, on every rank; its error too."""
    rank = torch.distributed.get_rank(group)
    told: list[Any] = [None, None]
    if rank == 0:
        try:
            told[0] = work()
        except Exception as error:
            told[1] = error
    torch.distributed.broadcast_object_list(told, group=group, group_src=0)
    if told[1] is not None:
        raise told[1]
    result: _T = told[0]
    return result
