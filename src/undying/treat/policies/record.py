"""What a Recycler tells the sinks of ``watch``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RecycleRecord:
    """Units, by site, since the record before; only sites with any."""

    step: int
    """Number of the step, from 0, as in the records of :func:`undying.watch`."""
    recycled: dict[str, list[int]]
    """Those that were recycled."""
    revived: dict[str, list[int]]
    """Of those recycled before: that fired in this step, and had not in a record since."""
    died_again: dict[str, list[int]]
    """Units that had revived and fire in no batch of this step."""
    total: int
    """Units recycled so far."""

    def scalars(self) -> dict[str, float]:
        """What a plot over steps shows, by name."""
        counts = {"recycled": self.recycled, "revived": self.revived, "died_again": self.died_again}
        found = {f"recycle/{name}": float(sum(map(len, units.values()))) for name, units in counts.items()}
        return {**found, "recycle/total": float(self.total)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of JSON."""
        return {
            "step": self.step,
            "recycled": self.recycled,
            "revived": self.revived,
            "died_again": self.died_again,
            "total": self.total,
        }
