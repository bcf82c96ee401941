"""What recycling did: a row a site."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from undying._base import text


@dataclass(frozen=True)
class RecycledSite:
    """One site of which units were chosen."""

    name: str
    """As the census names it."""
    kind: str
    """Type of the activation."""
    units: int
    recycled: tuple[int, ...]
    """Numbers of the units that were made anew."""
    refused: dict[int, str]
    """Chosen units that were left as they are, each with the reason."""
    silent: tuple[int, ...]
    """Recycled units that do not fire on the probe even so."""
    change: float
    """Largest change of an output of the network on the probe by this site."""

    @property
    def note(self) -> str:
        """Why units were refused, and which do not fire, in words."""
        parts = [f"{n} refused: {reason}" for reason, n in Counter(self.refused.values()).items()]
        if self.silent:
            parts.append(f"{len(self.silent)} do not fire on the probe")
        return "; ".join(parts)


@dataclass(frozen=True)
class RecycleReport:
    """A row for each site of which units were chosen; prints as a table, in a notebook too."""

    rows: tuple[RecycledSite, ...]
    note: str = ""
    """Why there are no rows."""
    change: float = 0.0
    """Largest change of an output of the network on the probe by all sites together."""

    def __getitem__(self, name: str) -> RecycledSite:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no unit was chosen at a site {name!r}; sites: {', '.join(row.name for row in self.rows)}")

    def __contains__(self, row: object) -> bool:
        """Whether a site of this name, or this row, is there."""
        return any(row == each.name or row == each for each in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RecycledSite]:
        return iter(self.rows)

    @property
    def recycled(self) -> int:
        """Number of units that were recycled."""
        return sum(len(row.recycled) for row in self.rows)

    @property
    def refused(self) -> int:
        """Number of chosen units that were left as they are."""
        return sum(len(row.refused) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "recycled": self.recycled,
            "change": self.change,
            "rows": [asdict(row) for row in self.rows],
            "note": self.note,
        }

    def __str__(self) -> str:
        return text.table([_HEADER, *self._cells()], left=len(_HEADER)) if self.rows else self.note

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return text.html_table([_HEADER, *self._cells()]) if self.rows else f"<p>{html.escape(self.note)}</p>"

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name,
                row.kind,
                str(row.units),
                str(len(row.recycled)),
                str(len(row.refused)),
                f"{row.change:.3g}",
                row.note,
            )
            for row in self.rows
        ]


_HEADER = ("site", "kind", "units", "recycled", "refused", "change", "note")
