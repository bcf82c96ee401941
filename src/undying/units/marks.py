"""What is known of a tensor that holds no units, or of which it is not known where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from undying.units.layout import Axis, Layout


class Mark(Enum):
    """What is known of a tensor without a layout."""

    CONSTANT = "made of parameters and buffers alone"
    LOST = "no axis of it holds units"


@dataclass(frozen=True)
class Ranks:
    """Values that a sort, topk or max picked along all that told units apart, or the places where they were.

    No axis of them holds units, whatever is done to each value.
    """

    layout: Layout
    """Where the ranks lie, as though each were a unit."""
    source: Axis | None
    """The axis they were taken along, which they have again when they are scattered back; None where that is not known."""

    @property
    def are_last(self) -> bool:
        """Whether the last axis holds nothing but ranks, and no other holds any."""
        *others, last = self.layout.axes
        return all(step for _, step in last) and not any(step for axis in others for _, step in axis)


Known = Layout | Ranks | Mark | None
