"""Whether a cut network computes what the network did, with the cut units left out: by what reads what."""

from __future__ import annotations

import torch
from torch import Tensor

from undying.treat.prune.follow import CutFlow


def mismatch(before: CutFlow, goes: Tensor, after: CutFlow) -> str | None:
    """What differs, in words; None where every unit that is left is made, and weighed, as it was.

    Args:
        before: of the network.
        goes: bool over its ids: cut.
        after: of the cut network.
    """
    calls = [(made.where, made.kind) for made in before.made]
    if calls != [(made.where, made.kind) for made in after.made]:
        return "it makes other calls"
    was = torch.zeros(after.count, dtype=torch.int64)
    for a, b in zip(before.made, after.made, strict=True):
        left = a.ids[~goes[a.ids]]
        if len(left) != b.count:
            return f"{a.where} makes {b.count} units, and {len(left)} of {a.count} are left"
        was[b.ids] = left
    for a, b in zip(before.made, after.made, strict=True):
        pairs = torch.stack([a.child, a.parent])[:, ~goes[a.child]]
        if not torch.equal(_sorted(pairs), _sorted(torch.stack([was[b.child], was[b.parent]]))):
            return f"{a.where} computes units from others than before"
        one, other = before.met.get(a.first), after.met.get(b.first)
        if one is None or other is None:
            continue
        if (one.inputs is None) != (other.inputs is None):
            return f"{a.where} is given other units than before"
        if one.inputs is None or other.inputs is None:
            continue
        if not torch.equal(one.inputs[~goes[one.inputs]], was[other.inputs]):
            return f"{a.where} weighs other units than before"
    if _readers(before.reads) != _readers([(was[ids], by) for ids, by in after.reads]):
        return "what is read by operations that are not followed is not what it was"
    return None


def _sorted(pairs: Tensor) -> Tensor:
    return pairs.unique(dim=1) if pairs.numel() else pairs


def _readers(reads: list[tuple[Tensor, str]]) -> list[tuple[list[int], str]]:
    return [(ids.unique().tolist(), by) for ids, by in reads]
