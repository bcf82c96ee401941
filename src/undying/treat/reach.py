"""What may be changed of a network so that chosen units begin anew and nothing else changes.

A change of what makes a unit reaches everything that is computed from the unit. It keeps the function where it reaches
chosen units alone, since of these the weights of whatever reads them are set to 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from undying.treat.flow import Flow, Made, Reading, Slot, few, like, repeated

_SINGLE = ("norm", "bias", "scaled")
"""Kinds of calls that compute each unit from one unit."""


class Reach:
    """Questions about the units in a flow; a vector over ids has an entry for each id.

    Args:
        flow: of one forward pass.
        keep: whether outputs are to stay as they are, so that a unit is blocked whose mean has no place to go.
    """

    def __init__(self, flow: Flow, *, keep: bool = True) -> None:
        self.flow, self._keep = flow, keep
        self._reasons = [""]
        self._slots: dict[nn.Parameter, list[tuple[Made, Slot]]] = defaultdict(list)
        for made in flow.made:
            for slot in made.slots:
                if slot.parameter is not None:
                    self._slots[slot.parameter].append((made, slot))
        self._read = self._none()
        for ids, by in flow.reads:
            self._note(self._read, ids, by)
        for made, reading in self._readings():
            self._note(self._read, reading.ids, f"{made.where} reads it before the activation")
        self._behind: dict[int, list[Made]] = defaultdict(list)
        """By the first id of a call: the calls that compute units from its units one by one."""
        self._child = torch.cat([made.child for made in flow.made])
        self._parent = torch.cat([made.parent for made in flow.made])
        self._block = torch.zeros(flow.count, dtype=torch.int64)
        for i, made in enumerate(flow.made):
            self._block[made.first : made.first + made.count] = i
            for block in self._block[made.parent[made.parent > 0]].unique().tolist():
                self._behind[flow.made[block].first].append(made)
        self._norms = torch.tensor([made.kind == "norm" for made in flow.made])[self._block]
        self._weights = torch.tensor([bool(made.slots) for made in flow.made])[self._block]
        """bool over ids: made by a norm of each unit by itself; by a call with weights."""
        self.origin, self.blocked = self._origins()
        self._chains = {name: self._chain(made) for name, made in flow.sites.items()}

    def reason(self, number: Tensor) -> str:
        """The text of an entry of a vector of reasons, which holds 0 for none."""
        return self._reasons[int(number)]

    def _none(self) -> Tensor:
        return torch.zeros(self.flow.count, dtype=torch.int64)

    def _note(self, where: Tensor, ids: Tensor, reason: str) -> None:
        ids = ids[(ids > 0) & (where[ids] == 0)]
        if len(ids):
            self._reasons.append(reason)
            where[ids] = len(self._reasons) - 1

    # Behind a site.

    def _origins(self) -> tuple[Tensor, Tensor]:
        """(by id: the site's unit that it is computed from alone, 0 for none; by that: why its readers cannot do without
        it, 0 where they can)."""
        origin, blocked = self._none(), self._none()
        for made in self.flow.made:
            if made.kind in _SINGLE:
                origin[made.child] = origin[made.parent]
            elif made.kind == "site":
                self._note(blocked, origin[made.parent], f"the activation {made.where} reads it")
                origin[made.ids] = made.ids
            else:
                self._note(blocked, origin[made.parent], f"{made.where} adds it to another")
        weighed = torch.zeros_like(origin, dtype=torch.bool)
        for ids, by in self.flow.reads:
            self._note(blocked, origin[ids], by)
        for made, reading in self._readings():
            read = origin[reading.ids]
            weighed[read] = True
            if (problem := self._fixed(made, reading.weight)) is not None:
                self._note(blocked, read, problem)
        for made in self.flow.sites.values():
            self._note(blocked, made.ids[~weighed[made.ids]], "nothing that is followed reads it")
        for made, reading in self._readings() if self._keep else ():
            if self.shifted(made) is None:
                weighs = reading.weight.given.cpu() != 0
                for d in repeated(reading.columns):
                    weighs = weighs.any(d, keepdim=True)
                said = origin[few(reading.columns)[weighs & (few(reading.mean) != 0)]]
                self._note(
                    blocked,
                    said,
                    f"it still says something to {made.where}, which has no bias of its own that may change",
                )
        return origin, blocked

    def _readings(self) -> Iterator[tuple[Made, Reading]]:
        return ((made, made.reading) for made in self.flow.made if made.reading is not None)

    def _fixed(self, made: Made, slot: Slot) -> str | None:
        """Why a parameter of a call cannot be changed."""
        if slot.parameter is None:
            return f"a parameter of {made.where} is computed (parametrized, standardized), or shares its memory with another"
        if not slot.parameter.requires_grad:
            return f"a parameter of {made.where} is frozen (requires_grad is False)"
        if slot.parameter in self.flow.parameter_reads:
            return f"a parameter of {made.where} is also read by {self.flow.parameter_reads[slot.parameter]}"
        return None

    def shifted(self, made: Made) -> Slot | tuple[nn.Module, str] | None:
        """Where a constant is moved that a call gives no more: its bias, or the running mean of the batch norm behind
        it."""
        bias = made.bias
        if bias is not None:
            p = bias.parameter
            if p is None or not p.requires_grad or len(self._slots[p]) > 1 or p in self.flow.parameter_reads:
                return None
            return bias
        behind = self._behind[made.first]
        if len(behind) != 1 or not torch.equal(behind[0].parent, made.ids) or self._read[made.ids].any():
            return None
        [norm] = behind
        buffer = next(((module, name) for module, name, start in norm.running if start == 0), None)
        return buffer if buffer is not None and self._calls_with(buffer) == 1 else None

    def _calls_with(self, buffer: tuple[nn.Module, str]) -> int:
        return sum(any((m, n) == buffer for m, n, _ in made.running) for made in self.flow.made)

    # Before a site.

    def _chain(self, site: Made) -> tuple[Tensor, Tensor]:
        """(unit, id) of everything that a site's units are computed from one by one, nearest first."""
        order = self._child.argsort(stable=True)
        child, parent = self._child[order], self._parent[order]
        unit, at = site.child - site.first, site.parent
        units, ids = [], []
        is_site = torch.tensor([made.kind == "site" for made in self.flow.made])
        while True:
            keep = (at > 0) & ~is_site[self._block[at]]
            unit, at = unit[keep], at[keep]
            if not len(at):
                break
            units.append(unit)
            ids.append(at)
            low, high = torch.searchsorted(child, at), torch.searchsorted(child, at, right=True)
            many = high - low
            step = torch.arange(int(many.sum())) - (many.cumsum(0) - many).repeat_interleave(many)
            unit, at = torch.stack([unit.repeat_interleave(many), parent[low.repeat_interleave(many) + step]]).unique(
                dim=1
            )
        none = torch.zeros(0, dtype=torch.int64)
        return torch.cat(units or [none]), torch.cat(ids or [none])

    def leaks(self, active: Tensor) -> tuple[Tensor, Tensor]:
        """Reasons by id, 0 where a change reaches chosen units alone: of a change of its values, of what makes it.

        Args:
            active: bool over ids: the chosen units of the sites.
        """
        values = self._read.clone()
        for made in reversed(self.flow.made):
            if made.kind == "site":
                reason = f"it also makes a unit of {made.where} that is not recycled"
                self._note(values, made.parent[~active[made.child]], reason)
            else:
                bad = (values[made.child] > 0) & (values[made.parent] == 0) & (made.parent > 0)
                values[made.parent[bad]] = values[made.child[bad]]
        makers = values.clone()
        for made in self.flow.made:
            if not made.slots and any(self._calls_with((m, n)) > 1 for m, n, _ in made.running):
                self._note(makers, made.ids, f"{made.where} is called more than once")
            for slot in made.slots:
                if (problem := self._fixed(made, slot)) is not None:
                    self._note(makers, made.ids, problem)
        for parameter, slots in self._slots.items():
            if len(slots) < 2:
                continue
            touched = like(parameter, torch.bool)
            for _, slot in slots:
                slot.on(touched).logical_or_(values[slot.rows] > 0)
            for made, slot in slots:
                rows = slot.rows[slot.on(touched)].unique()
                others = ", ".join(dict.fromkeys(m.where for m, s in slots if s is not slot))
                self._note(
                    makers,
                    rows,
                    f"a parameter of {made.where} is also that of {others}, where the unit is not recycled",
                )
        return values, makers

    def choose(self, chosen: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, dict[int, str]], Tensor]:
        """(the units that can be recycled, by site; why others cannot, by site and unit; bool over ids: what of them is
        made anew).

        Args:
            chosen: bool over units, by site.
        """
        chosen = {name: units.clone() for name, units in chosen.items()}
        refused: dict[str, dict[int, str]] = {name: {} for name in chosen}

        def refuse(name: str, unit: int, reason: str) -> None:
            refused[name][unit] = reason
            chosen[name][unit] = False

        for name, units in chosen.items():
            blocked = self.blocked[self.flow.sites[name].ids]
            for unit in (units & (blocked > 0)).nonzero().flatten().tolist():
                refuse(name, unit, self.reason(blocked[unit]))
        while True:
            active = self.active(chosen)
            values, makers = self.leaks(active)
            before = sum(map(len, refused.values()))
            for name in chosen:
                for unit, reason in self._without_makers(name, chosen[name], values, makers):
                    refuse(name, unit, reason)
            for unit_id, reason in self._tied(active, values):
                name = next(n for n, m in self.flow.sites.items() if m.first <= unit_id < m.first + m.count)
                if chosen[name][unit_id - self.flow.sites[name].first]:
                    refuse(name, unit_id - self.flow.sites[name].first, reason)
            if sum(map(len, refused.values())) == before:
                break
        return chosen, refused, makers == 0

    def alone(self) -> tuple[dict[str, dict[int, str]], dict[str, tuple[Tensor, Tensor]]]:
        """(by site and unit: why it cannot be recycled while no other is; by site: (unit, id) of what is made anew for
        each unit that can).

        Two units differ in a bit of their numbers. So each is asked for beside all that share a bit with it, for each
        bit in turn: one that needs another is refused where that one is missing.
        """
        sites = self.flow.sites
        counts = [made.count for made in sites.values()]
        numbers = dict(zip(sites, torch.arange(sum(counts)).split(counts), strict=True))
        refused: dict[str, dict[int, str]] = {name: {} for name in sites}
        free = {name: torch.ones(len(unit), dtype=torch.bool) for name, (unit, _) in self._chains.items()}
        for bit in range(max(1, sum(counts).bit_length())):
            for value in (0, 1):
                chosen = {name: (n >> bit & 1) == value for name, n in numbers.items()}
                _, reasons, may = self.choose(chosen)
                for name, (unit, at) in self._chains.items():
                    refused[name] |= reasons[name]
                    free[name] &= ~chosen[name][unit] | may[at]
        makers = {}
        running = torch.tensor([bool(made.running) for made in self.flow.made])[self._block]
        for name, (unit, at) in self._chains.items():
            able = torch.ones(sites[name].count, dtype=torch.bool)
            able[[*refused[name]]] = False
            own = free[name] & able[unit] & (self._weights | running)[at]
            makers[name] = unit[own], at[own]
            able[unit[own & self._weights[at]]] = False
            refused[name] |= dict.fromkeys(able.nonzero().flatten().tolist(), "what makes it makes other units too")
        return refused, makers

    def active(self, chosen: Mapping[str, Tensor]) -> Tensor:
        """bool over ids: these units of the sites."""
        active = self._none().bool()
        for name, units in chosen.items():
            active[self.flow.sites[name].ids[units]] = True
        return active

    def makers(self, name: str, units: Tensor, free: Tensor) -> Iterator[tuple[int, Made, Tensor]]:
        """(unit, call, id) of what is made anew for ``units`` of a site, nearest first.

        Args:
            name: of the site.
            units: bool.
            free: bool over ids: what may be.
        """
        unit, at = self._chains[name]
        keep = units[unit] & free[at]
        for u, i, block in zip(unit[keep].tolist(), at[keep], self._block[at[keep]].tolist(), strict=True):
            if self.flow.made[block].slots or self.flow.made[block].running:
                yield u, self.flow.made[block], i

    def _without_makers(self, name: str, units: Tensor, values: Tensor, makers: Tensor) -> Iterator[tuple[int, str]]:
        """Units of which nothing that makes them is free, or a norm on the way is not, with the reason."""
        unit, at = self._chains[name]
        held = self._norms[at] & (makers[at] > 0) & (values[at] == 0)
        has, lacks = torch.zeros_like(units), torch.zeros_like(units)
        has[unit[self._weights[at] & (makers[at] == 0)]] = True
        lacks[unit[held]] = True
        for u in (units & (lacks | ~has)).nonzero().flatten().tolist():
            ids, fixed = at[unit == u], at[(unit == u) & held]
            why = makers[fixed] if has[u] else makers[ids][makers[ids] > 0]
            if len(why):
                yield u, f"what makes it cannot be changed: {self.reason(why[0])}"
            elif len(ids):
                yield u, f"{self.flow.made[int(self._block[ids[0]])].where} has no weights of its own"
            else:
                site = self.flow.sites[name]
                yield u, f"what makes it is not followed: {site.lost or 'another activation'}"

    def _tied(self, active: Tensor, values: Tensor) -> Iterator[tuple[int, str]]:
        """Chosen units whose outgoing weights are read elsewhere, where setting them to 0 would change something."""
        for parameter, slots in self._slots.items():
            for made, slot in slots if len(slots) > 1 else ():
                if made.reading is None or slot is not made.reading.weight:
                    continue
                weighed = self.columns(made.reading)
                zero = active[weighed]
                if not zero.any():
                    continue
                for other, tied in slots:
                    if tied is slot:
                        continue
                    bad = values[tied.rows] > 0
                    if other.reading is not None and tied is other.reading.weight:
                        bad &= ~active[self.columns(other.reading)]
                    whole = like(parameter, torch.bool)
                    tied.on(whole).copy_(bad)
                    for unit_id in weighed[zero & slot.on(whole)].unique().tolist():
                        yield unit_id, f"the weight of {made.where} is also that of {other.where}"

    def direct(self, name: str) -> Tensor:
        """bool over ids: what is added to the pre-activations of a site as it is."""
        found = self._none().bool()
        site = self.flow.sites[name]
        found[site.parent] = True
        for made in reversed(self.flow.made[: self.flow.made.index(site)]):
            if made.kind in ("sum", "bias"):
                found[made.parent[found[made.child]]] = True
        return found

    def groups(self, names: list[str], units: Mapping[str, Tensor], free: Tensor) -> list[list[str]]:
        """The sites, apart where what is changed for one has no part in what is changed for another."""
        groups: list[tuple[set[int], list[str]]] = []
        for name in names:
            keys = {id(slot.parameter) for _, made, _ in self.makers(name, units[name], free) for slot in made.slots}
            active = self.active({name: units[name]})
            for parameter, slots in self._slots.items():
                if len(slots) > 1 and any(
                    m.reading is not None and s is m.reading.weight and bool(active[self.origin[m.reading.ids]].any())
                    for m, s in slots
                ):
                    keys.add(id(parameter))
            together = [group for group in groups if group[0] & keys]
            groups = [group for group in groups if not group[0] & keys]
            joined = [n for _, members in together for n in members]
            groups.append((keys.union(*(k for k, _ in together)), [*joined, name]))
        return [members for _, members in groups]

    def loud(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of ``units`` (bool, by site) that give something other than 0 on average to what weighs them."""
        heard = self._none().bool()
        for _, reading in self._readings():
            heard[self.origin[few(reading.columns)[few(reading.mean) != 0]]] = True
        return {name: mask & heard[self.flow.sites[name].ids] for name, mask in units.items()}

    def columns(self, reading: Reading) -> Tensor:
        """For each element of a call's weight, the unit of a site that it weighs; 0 for none."""
        return self.origin[reading.columns]
