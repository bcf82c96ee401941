"""What a conversion did, or would do: a row a site."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from undying._base import text
from undying._base.patterns import ROOT


@dataclass(frozen=True)
class Row:
    """One place in the network that holds or calls a target."""

    name: str
    """Qualified name of the module or attribute, or of the module whose forward makes the call; empty for the root."""
    kind: str
    """``"module"``, ``"attribute"`` (a function held as one) or ``"call"`` (of a function, in a forward); in an
    audit also ``"not recognised"``: what acts as an activation and is none that is known."""
    old: str
    new: str | None
    """None where it was left alone, and in an audit."""
    calls: int | None = None
    """How often one forward pass of the example calls it; None without an example."""
    reason: str | None = None
    """Why it was left alone."""
    alias_of: str | None = None
    """First name of the same module, where it has several."""

    @property
    def left(self) -> bool:
        """Whether it was, or would be, left alone."""
        return self.reason is not None


@dataclass(frozen=True)
class ConversionReport:
    """A row a site; prints as a table, in a notebook too."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def converted(self) -> int:
        """Number of distinct sites that were converted; an alias counts with the module it names."""
        return sum(row.new is not None and row.alias_of is None for row in self.rows)

    @property
    def left(self) -> tuple[Row, ...]:
        """The rows that were left alone."""
        return tuple(row for row in self.rows if row.left)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"converted": self.converted, "rows": [asdict(row) for row in self.rows], "notes": list(self.notes)}

    def __str__(self) -> str:
        if not self.rows:
            return "nothing to convert: " + "\n".join(self.notes or ["no target was found"])
        lines = [_HEADER, *self._cells()]
        used = [i for i in range(len(_HEADER)) if any(cells[i] for cells in lines[1:])]
        table = text.table([[cells[i] for i in used] for cells in lines], left=len(used))
        return "\n".join([table, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"{text.html_table([_HEADER, *self._cells()])}{notes}"

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name or ROOT,
                row.kind,
                row.old,
                row.new or "",
                "" if row.calls is None else str(row.calls),
                f"same as {row.alias_of or ROOT}"
                if row.alias_of is not None
                else f"left: {row.reason}"
                if row.reason
                else "",
            )
            for row in self.rows
        ]


_HEADER = ("name", "kind", "old", "new", "calls", "note")


@dataclass(frozen=True)
class RevertRow:
    """One activation that was taken out."""

    name: str
    """Of the module, or of the child that took the place of a function; empty for the root."""
    kind: str
    """``"module"``, ``"attribute"`` or ``"call"``, as in :class:`undying.ConversionReport`."""
    old: str
    """The activation that stood there."""
    new: str
    """What came back."""
    changes: bool
    """Whether the forward pass may be another now."""


@dataclass(frozen=True)
class Effect:
    """What reverting does over data."""

    largest_change: float
    """Of a number of the output, in absolute terms; inf where one becomes NaN or the outputs have other shapes."""
    accuracy: tuple[float, float] | None
    """Before and after, where batches hold labels."""
    labels: int
    """Number of labels that counted."""

    def __str__(self) -> str:
        told = f"the output changes by {self.largest_change:.3g} at most"
        if self.accuracy is None:
            return told
        before, after = (f"{100 * share:.1f} %" for share in self.accuracy)
        return f"{told}, accuracy from {before} to {after} (n = {self.labels})"


class RevertReport(int):
    """What ``revert_`` took out: the number of activations, as an int, with a row each; prints as a table."""

    rows: tuple[RevertRow, ...]
    effect: Effect | None
    """Over the data of ``check``; None without."""

    def __new__(cls, rows: tuple[RevertRow, ...], effect: Effect | None = None) -> RevertReport:
        report = super().__new__(cls, len(rows))
        report.rows, report.effect = rows, effect
        return report

    def __getnewargs__(self) -> Any:  # for copies and pickles
        return self.rows, self.effect

    @property
    def changed(self) -> tuple[RevertRow, ...]:
        """The rows where the forward pass may be another now."""
        return tuple(row for row in self.rows if row.changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        effect = None if self.effect is None else asdict(self.effect)
        return {"reverted": int(self), "rows": [asdict(row) for row in self.rows], "effect": effect}

    def __str__(self) -> str:
        lines = [] if self.effect is None else [str(self.effect)]
        return "\n".join([revert_table(self.rows) if self.rows else "nothing to revert", *lines])

    __repr__ = __str__


def revert_table(rows: tuple[RevertRow, ...]) -> str:
    """A line a row below a head."""
    cells = [(row.name or ROOT, row.kind, row.old, row.new, "changes" if row.changes else "same") for row in rows]
    return text.table([("name", "kind", "old", "new", "forward"), *cells], left=5)
