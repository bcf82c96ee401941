"""Make units useful again without changing what the network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from undying._base.unwrap import unwrap_model
from undying.census.batches import Inputs, Method
from undying.census.results import Census
from undying.treat.anew import INITS, Anew
from undying.treat.choice import Choice, Units
from undying.treat.edits import Edits, changed, check_held, optimizers_in, reset_state, set_at, values_at
from undying.treat.probe import Probe, Seen
from undying.treat.reach import Reach
from undying.treat.recycled import RecycledSite, RecycleReport

__all__ = ["recycle_"]

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None

_ROUNDING = 1e-5
"""How much of an output may change where units gave 0: kernels that add in another order each time do that."""

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
    method: Method = None,
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
        tolerance: largest change of an output on the probe, as a share of the largest absolute value of that output, that
            all sites together may make. Silent ReLU units change nothing at all. Infinite values and those of -1e4 and
            below, which mask others, are left out where there are more.
        inputs, axes, method: as in :func:`undying.census`.
        generator: of the draws; default: torch's own.

    Returns:
        a :class:`undying.RecycleReport`, a row for each site of which units were chosen.

    Raises:
        ValueError: a census or certificate of another network or from before a conversion; an optimizer that does not
            hold what would change, or LBFGS; numbers of units that are not there or repeat; no batch, or none on which
            an output is finite; lazy layers that have not run. Nothing was changed then.
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
        batches = Probe(inner, probe, inputs, axes or {}, method=method)
        seen = batches.look()
        choice = Choice(units, census, batches, seen)
        if not any(mask.any() for mask in choice.units.values()):
            return RecycleReport((), choice.none), []
        recycling = _Recycling(inner, batches, seen, init, tolerance)
        report = recycling.run(choice, seed, lambda targets: check_held(optimizers, targets, lambda t: names[id(t)]))
        return report, [(names[id(t)], at, values_at(t, at)) for t, at in changed(recycling.edits)]

    report, changes = work() if group is None else _on_first_rank(work, group)
    check_held(optimizers, [tensors[name] for name, _, _ in changes], lambda t: names[id(t)])
    for name, at, values in changes:
        set_at(tensors[name], at, values)
    reset_state(optimizers, [(tensors[name], at) for name, at, _ in changes if isinstance(tensors[name], nn.Parameter)])
    return report


class _Recycling:
    """One call: what was seen before, what is refused, what was written."""

    def __init__(self, model: nn.Module, probe: Probe, before: Seen, init: str, tolerance: float) -> None:
        self.model, self.probe, self.before, self.init, self.tolerance = model, probe, before, init, tolerance
        self.refused: dict[str, dict[int, str]] = {}
        self.change: dict[str, float] = {}
        self.total = 0.0
        self.silent: dict[str, Tensor] = {}
        self.edits: list[Edits] = []

    def run(self, choice: Choice, seed: int, check: Callable[[Iterable[Tensor]], None]) -> RecycleReport:
        """Recycle what can be, and say of the rest why not.

        Args:
            choice: the units.
            seed: of the draws.
            check: is given the parameters and buffers that will change, before any does.
        """
        assert self.before.flow is not None
        asked = {name: mask for name, mask in choice.units.items() if mask.any()}
        self._refuse(choice.refused)
        reach = Reach(self.before.flow)
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
        return RecycleReport(tuple(self._row(name, mask) for name, mask in asked.items()), change=self.total)

    def _change(
        self, reach: Reach, anew: Anew, edits: Edits, units: dict[str, Tensor], middle: Mapping[str, Tensor]
    ) -> None:
        """Write ``edits``, which recycle ``units``; where the outputs change, site by site, to say which does it."""
        seen = self._write(edits)
        if seen.change_from(self.before) > 0:
            self._take_back()
            now = self.before
            for group in reach.groups([name for name in units if units[name].any()], units, anew.free):
                now = self._try(reach, anew, {name: units[name] for name in group}, middle, now)
            seen = now
        seen = self._wake(anew, {name: self._left(name, mask) for name, mask in units.items()}, seen)
        self.total = seen.change_from(self.before)

    def _try(self, reach: Reach, anew: Anew, units: dict[str, Tensor], middle: Mapping[str, Tensor], now: Seen) -> Seen:
        """Recycle units of sites that belong together, all or those that gave 0, and see; ``now``: what was seen before."""
        while any(mask.any() for mask in units.values()):
            seen = self._write(anew.edits(units, middle))
            if anew.moved:  # what all sites change counts
                beyond = seen.beyond(self.before, self.tolerance, self.before.sizes)
            else:
                beyond = seen.beyond(now, min(self.tolerance, _ROUNDING), self.before.sizes)
            if beyond is None:
                self.change.update(dict.fromkeys(units, seen.change_from(now)))
                return seen
            self._take_back()
            change, most = beyond
            if anew.moved:
                reason = (
                    f"an output would change by {change:.3g}, by all sites together, and tolerance={self.tolerance} "
                    f"allows {most:.3g}"
                )
                loud = reach.loud(units)
            else:
                reason = f"an output would change by {change:.3g}: something that is not followed reads it"
                loud = units
            self._refuse({name: dict.fromkeys(_numbers(mask), reason) for name, mask in loud.items()})
            units = {name: mask & ~loud[name] for name, mask in units.items()}
        return now

    def _wake(self, anew: Anew, units: dict[str, Tensor], seen: Seen) -> Seen:
        """Give units that do not fire other weights: those of the opposite sign, then others; and see."""
        for attempt in range(_TRIES + 1):
            self.silent = {name: mask & (seen.fired[name] == 0) for name, mask in units.items()}
            if attempt == _TRIES or self.init == "recenter" or not any(mask.any() for mask in self.silent.values()):
                break
            edits = Edits()
            # Of what is behind a norm that mixes, or that others read too, the norm's bias alone is there to move.
            rest = anew.without_weights(self.silent)
            if any(mask.any() for mask in rest.values()):
                anew.recenter(edits, rest, self.probe.check(rest).middle)
            if attempt % 2:
                anew.draw(edits, self.silent)
            else:
                anew.mirror(edits, self.silent)
            woken = self._write(edits)
            if woken.beyond(seen, _ROUNDING, self.before.sizes):  # what reads them does not weigh them with 0
                self._take_back()
                return seen
            seen = woken
        return seen

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
