"""By how much two outputs of a network differ."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def difference(a: Tensor, b: Tensor) -> float:
    """The largest change of a number; infinite where the shape changed, or where a number became infinite or NaN, or ceased
    to be.

    >>> difference(torch.tensor([1.0, torch.nan]), torch.tensor([1.5, torch.nan]))
    0.5
    """
    if a.shape != b.shape:
        return math.inf
    if torch.equal(a, b):
        return 0.0
    a, b = (t.to(torch.complex128) if t.is_complex() else t.double() for t in (a, b))
    change = torch.where((a == b) | (a.isnan() & b.isnan()), 0, (a - b).abs())
    return float(torch.nan_to_num(change, nan=math.inf, posinf=math.inf).max())
