"""What the page's script is told of a drawing: numbers beside its parts, as ``data-`` attributes of SVG.

matplotlib writes an artist's gid as the id of its group; a mark is such a gid, which :mod:`undying.plots.theme` turns into
attributes in the page's copy and drops from a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import quoteattr

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from undying._base.text import clean

_MARK = "data:"
_AXES = "data:axes-"


def mark(artist: Artist, **values: object) -> None:
    """Put ``data-name="value"`` beside what ``artist`` draws. No text of a user may be among the values: an arm is a number."""
    artist.set_gid(_MARK + json.dumps({name: str(value) for name, value in values.items()}))


def mark_axes(axes: Axes, over: str) -> None:
    """Tell where these axes are and what they span, known once they are drawn (:func:`placed`), where their ticks are, and
    what is along them."""
    axes.set_label(over)
    axes.set_gid(f"{_AXES}{id(axes)}-")  # replaced before anybody reads it
    mark(axes.yaxis, ticks="y")


def listed(values: Iterable[float]) -> str:
    """
    >>> listed([0, 12.345678, float("nan")])
    '0 12.3457 nan'
    """
    return " ".join(f"{value:.6g}" for value in values)


def placed(canvas: Canvas, drawn: str) -> str:
    """The SVG of ``canvas``, with the places of its marked axes."""
    width, height = 72 * canvas.get_size_inches()
    for axes in canvas.axes:
        token = axes.get_gid() or ""
        if token.startswith(_AXES):
            box = axes.get_position()
            values = {
                "box": listed([width * box.x0, height * (1 - box.y1), width * box.x1, height * (1 - box.y0)]),
                "xlim": listed(axes.get_xlim()),
                "ylim": listed(axes.get_ylim()),
                "scale": axes.get_yscale(),
                "over": clean(str(axes.get_label())),
            }
            drawn = drawn.replace(f'id="{token}"', f"id={quoteattr(_MARK + json.dumps(values))}")
    return drawn


def values_of(gid: str | None) -> dict[str, Any]:
    """What a mark says; nothing for any other id."""
    if gid is None or not gid.startswith(_MARK) or gid.startswith(_AXES):
        return {}
    values: dict[str, Any] = json.loads(gid.removeprefix(_MARK))
    return values
