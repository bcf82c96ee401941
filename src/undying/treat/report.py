"""What a conversion did, or would do: a row a site."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

from undying._base import text


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
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self._cells())
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table>{row(_HEADER, 'th')}{body}</table>{notes}"

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name or "(root)",
                row.kind,
                row.old,
                row.new or "",
                "" if row.calls is None else str(row.calls),
                f"same as {row.alias_of or '(root)'}"
                if row.alias_of is not None
                else f"left: {row.reason}"
                if row.reason
                else "",
            )
            for row in self.rows
        ]


_HEADER = ("name", "kind", "old", "new", "calls", "note")
