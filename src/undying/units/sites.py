"""The layout at a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from undying.units.layout import Layout, Statistic
from undying.units.marks import Known, Mark, Ranks


class AmbiguousError(ValueError):
    """Nothing that is followed decides which axis holds the units of a site."""


class RanksError(AmbiguousError):
    """No axis does, whatever is said of it."""


def site_layout(name: str, x: Tensor, followed: Known, axes: Mapping[str, int]) -> Layout:
    """The layout at a site: by the axis that the user names in ``axes``, as followed, or the last of two.

    Raises:
        AmbiguousError: none of these decides it.
        RanksError: they were picked by a sort, topk or max.
        ValueError: ``axes`` names an axis that x does not have.
    """
    axis = axes.get(name)
    if isinstance(followed, Ranks):
        raise RanksError(f"site {name!r}: its {tuple(x.shape)} input is {RANKS}")
    if axis is not None:
        if not -x.dim() <= axis < x.dim():
            raise ValueError(f"site {name!r}: axes gives {axis}, but its input has shape {tuple(x.shape)}")
        return Layout.along(axis, x.shape)
    if type(followed) is Layout and followed.shape == tuple(x.shape):
        return followed.in_order()
    if x.dim() != 2 or followed is Mark.LOST or isinstance(followed, Statistic):
        raise AmbiguousError(
            f"site {name!r}: nothing that is followed decides which axis of its {tuple(x.shape)} input holds the units; "
            f"{name_axis(name, x.shape)}"
        )
    return Layout.along(-1, x.shape)


RANKS = "picked by a sort, topk or max, and a rank is no unit"


def name_axis(name: str, shape: Sequence[int]) -> str:
    """How to say which axis holds the units; no axis is put forward, as any may be the wrong one."""
    if len(shape) < 2:
        return f"if its one axis does, and not the samples, axes={{{name!r}: 0}}" if shape else "it has no axis"
    return f"name the one that does, 0 to {len(shape) - 1}: axes={{{name!r}: AXIS}}"
