"""What a pruning did: a row a site, what it saves, and how exactly the network stayed the same."""

from __future__ import annotations

import html
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from undying._base import text
from undying._base.files import write_named
from undying.treat.prune.proof import Cost, Latency


@dataclass(frozen=True)
class PrunedSite:
    """One site with constant units."""

    name: str
    """As the census names it."""
    kind: str
    """Type of the activation."""
    units: int
    """Before."""
    cut: tuple[int, ...]
    """Numbers of the units that went."""
    folded: tuple[int, ...]
    """Of those: which gave a constant other than 0, that a bias behind gives now."""
    refused: dict[int, str]
    """Silent, saturated or constant units that stayed, each with the reason."""

    @property
    def note(self) -> str:
        """Why units stayed, in words."""
        parts = [f"{n} refused: {reason}" for reason, n in Counter(self.refused.values()).items()]
        return "; ".join([*([f"{len(self.folded)} folded"] if self.folded else []), *parts])


@dataclass(frozen=True)
class PruneReport:
    """A row for each site with units that are silent, saturated or constant; prints as a table, in a notebook too."""

    rows: tuple[PrunedSite, ...]
    holds: str
    """For what the outputs stay the same, in words."""
    recipe: dict[str, Any]
    """Plain data, ready for JSON: by layer which outputs and inputs are left. :func:`undying.apply_recipe_` shapes a fresh
    network by it."""
    whole: dict[str, int]
    """Layers that are dead, or constant, as a whole, with their number of units; one is left of each."""
    before: Cost
    after: Cost
    change: float
    """Largest change of a number of an output, on the example and the data."""
    relative: float
    """The same as a share of the largest absolute value of that output."""
    batches: int
    """How many batches were compared, with the example."""
    latency: Latency | None = None
    """Measured where it was asked for."""
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> PrunedSite:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no unit is constant at a site {name!r}; sites: {', '.join(row.name for row in self.rows)}")

    def __iter__(self) -> Iterator[PrunedSite]:
        return iter(self.rows)

    def __contains__(self, row: object) -> bool:
        """Whether a site of this name, or this row, is there."""
        return any(row == each.name or row == each for each in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def cut(self) -> int:
        """Number of units that went."""
        return sum(len(row.cut) for row in self.rows)

    @property
    def refused(self) -> int:
        """Number of silent, saturated or constant units that stayed."""
        return sum(len(row.refused) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"kind": "undying.PruneReport", "format": 1, "cut": self.cut, "refused": self.refused, **asdict(self)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON: beside ``path`` first and then renamed, so that no half file is ever found there."""
        write_named(Path(path), json.dumps(self.to_dict()))

    def save_recipe(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe alone, likewise."""
        write_named(Path(path), json.dumps(self.recipe))

    @property
    def summary(self) -> list[str]:
        """What stands below the table."""
        lines = [f"{name}: all {units} units could go; one is left" for name, units in self.whole.items()]
        lines.append(f"parameters {_change(self.before.parameters, self.after.parameters)}")
        lines.append(f"bytes {_change(self.before.bytes, self.after.bytes)}")
        lines.append(f"FLOPs of the example {_change(self.before.flops, self.after.flops)}")
        if self.latency is not None:
            lines.append(f"latency {self.latency}")
        lines.append(
            f"outputs change by {self.change:.3g} at most, {self.relative:.3g} of the largest, on {self.batches} "
            f"{'batch' if self.batches == 1 else 'batches'}"
        )
        return [*lines, self.holds, *self.notes]

    def __str__(self) -> str:
        table = text.table([_HEADER, *self._cells()], left=len(_HEADER)) if self.rows else "nothing to cut"
        return "\n".join([table, *self.summary])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in self.summary)
        return f"{text.html_table([_HEADER, *self._cells()])}{notes}"

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (row.name, row.kind, str(row.units), str(len(row.cut)), str(len(row.refused)), row.note)
            for row in self.rows
        ]


_HEADER = ("site", "kind", "units", "cut", "refused", "note")


def _change(before: int, after: int) -> str:
    share = f" ({100 * (after / before - 1):.1f} %)" if before and before != after else ""
    return f"{before:,} -> {after:,}{share}"
