"""Which units always give the same, by what is known of some of them and by the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from undying.treat.flow import Made
from undying.treat.prune.follow import CutFlow


class Constants:
    """Over ids: what is known of the value.

    Args:
        flow: of the example.
        known: bool over units, by site: who is constant, as a census or a certificate has it.
    """

    def __init__(self, flow: CutFlow, known: Mapping[str, Tensor]) -> None:
        self.flow = flow
        self.same = torch.zeros(flow.count, dtype=torch.bool)
        """Always the same; outside of the sites it follows from the weights, for every input."""
        self.zero = torch.zeros(flow.count, dtype=torch.bool)
        """Always 0."""
        for made in flow.made:  # in the order of the forward pass
            same, zero = self._of(made, known)
            self.same[made.ids], self.zero[made.ids] = same, zero & same

    def _of(self, made: Made, known: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        none = torch.zeros(made.count, dtype=torch.bool)
        if made.kind == "weighted":
            return self._weighted(made)
        if made.kind == "mixing norm":
            return none, none
        same, zero = self._all_parents(made, self.same), self._all_parents(made, self.zero)
        if made.kind == "norm":
            still = [slot for slot in made.slots if not slot.is_bias]
            return (same | (still[0].given.cpu() == 0) if still else same), none
        if made.kind == "site":
            same = same | known.get(made.where, none)
            low, high = self.flow.ranges.get(made.where, (torch.ones(made.count), torch.zeros(made.count)))
            same &= low == high
            return same, same & (low == 0)
        if made.kind == "product":
            zero = ~self._all_parents(made, ~self.zero)
            return same | zero, zero
        if made.first in self.flow.varying:
            return (zero, zero) if made.kind == "scaled" else (none, none)
        if made.kind in ("bias", "difference") or made.first in self.flow.moving:
            return same, none
        return same, zero

    def _weighted(self, made: Made) -> tuple[Tensor, Tensor]:
        """Those with weights of 0 wherever an input is not always 0 give their bias."""
        met, weight = self.flow.met[made.first], made.slots[0].given
        said = (weight != 0).cpu().flatten(2).any(2) if weight.dim() > 2 else (weight != 0).cpu()
        if met.inputs is not None:
            said = said & ~self.zero[met.inputs][met.columns]
        same = met.by_row(said.float(), made.count) == 0
        return same, same if made.bias is None else same & (made.bias.given.cpu() == 0)

    def _all_parents(self, made: Made, is_so: Tensor) -> Tensor:
        """bool over the units of a call: whether it is so of all that each is computed from."""
        so = is_so[made.parent]
        counts = torch.zeros(2, made.count, dtype=torch.int64)
        counts.index_add_(1, made.child - made.first, torch.stack([torch.ones_like(so), ~so]).long())
        return (counts[0] > 0) & (counts[1] == 0)
