"""Plain text: tables and durations."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows of equal length, aligned: the first ``left`` columns to the left, the others to the right.

    >>> print(table([("site", "units"), ("act1", "8")], left=1))
    site  units
    act1      8
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same rows as a table in markdown; the first is its head.

    >>> print(markdown([("site", "units"), ("act1", "8")]))
    | site | units |
    | --- | --- |
    | act1 | 8 |
    """
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def comma_separated(rows: Iterable[Sequence[object]]) -> str:
    """The same rows as CSV.

    >>> comma_separated([("site", "units"), ("act,1", 8)])
    'site,units\\n"act,1",8\\n'
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def duration(seconds: float) -> str:
    """In words.

    >>> duration(50), duration(5000), duration(10_000), duration(1e6)
    ('50 s', '83 min', '2.8 h', '11.6 days')
    """
    for below, unit, name in ((90, 1, "s"), (5400, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < below:
            return f"{seconds / unit:.1f} {name}" if name == "h" else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
