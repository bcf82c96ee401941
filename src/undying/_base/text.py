"""Plain text: tables, durations, and what of a name or a number can be shown."""

from __future__ import annotations

import csv
import html
import io
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeGuard

# What XML 1.0 and a terminal can hold, and no turn of the direction of writing. The rest (escape sequences, lone
# surrogates) can come in through a name.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def clean(text: str) -> str:
    """``text`` with everything that a page or a terminal cannot hold made visible."""
    return _UNPRINTABLE.sub("�", text)


# Hebrew, Arabic and the scripts beside them, which are written from right to left.
_LEFTWARDS = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
_WORDS = re.compile(rf"[^\s(\[]*{_LEFTWARDS}\S*?(?:\s+\S*{_LEFTWARDS}\S*?)*(?=[:;,.!?)\]]*(?:\s|$))")


def isolated(text: str) -> str:
    """``text`` with its words that are written from right to left set apart, in Unicode's isolates: else they would turn
    round the numbers that follow, and the signs between them.

    >>> isolated("\u05d0\u05d1 \u05d2: +1.0 [-1.5, 3]") == "\u2068\u05d0\u05d1 \u05d2\u2069: +1.0 [-1.5, 3]"
    True
    >>> isolated("relu (\u05d0), +1.0") == "relu (\u2068\u05d0\u2069), +1.0"
    True
    """
    return _WORDS.sub(lambda words: f"\u2068{words[0]}\u2069", text)


def clip(text: str, width: int) -> str:
    """One line of at most ``width`` characters; a long name loses its middle, as names differ at both ends.

    >>> clip("features.denseblock4.relu", 13)
    'featur…4.relu'
    """
    line = " ".join(clean(text).split())
    if len(line) <= width:
        return line
    tail = (width - 1) // 2
    return f"{line[: width - 1 - tail]}…{line[-tail:]}"


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


def html_table(rows: Sequence[Sequence[str]], most: int = 100) -> str:
    """The same rows as a table in HTML, escaped; the first is its head. Of very many the first ``most`` are shown, and it says
    how many follow.

    >>> html_table([("site", "units"), ("<a>", "8")])
    '<table><tr><th>site</th><th>units</th></tr><tr><td>&lt;a&gt;</td><td>8</td></tr></table>'
    """
    lines = (
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
    )
    shown = [f"<tr>{line}</tr>" for line in itertools.islice(lines, most + 1)]
    left = len(rows) - len(shown)
    return f"<table>{''.join(shown)}</table>" + f"<p>… and {left} rows more.</p>" * (left > 0)


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


def ranges(numbers: Sequence[int]) -> list[str]:
    """Ascending numbers, those in a row as one.

    >>> ranges([0, 4, 5, 6])
    ['0', '4-6']
    """
    return [str(a) if a == b else f"{a}-{b}" for a, b in runs(numbers)]


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours in ascending numbers."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def duration(seconds: float) -> str:
    """In words.

    >>> duration(50), duration(5000), duration(10_000), duration(1e6)
    ('50 s', '83 min', '2.8 h', '11.6 days')
    """
    for below, unit, name in ((90, 1, "s"), (5400, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < below:
            return f"{seconds / unit:.1f} {name}" if name == "h" else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
