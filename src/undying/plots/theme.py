"""From a matplotlib figure to SVG: the page's copy takes its colours from the page, the file's copy has its own.

Figures are drawn in stand-in colours, one for each role. The copy inside the page gets CSS variables in their place
and so follows the reader's light or dark setting; the copy on disk gets the light colours on white.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from undying._base.text import clean, isolated
from undying.plots.marks import mark, placed, values_of

NARROW = 4.17
"""Inches: 400 px on a page, so that 9.5 pt can still be read when a phone shows a figure at its full width."""
WIDE = 5.6
"""Inches: a figure in a file of its own."""


_PRINTED: ContextVar[bool] = ContextVar("printed", default=False)
"""Whether figures are drawn in their own colours at once: PDF and PNG cannot be recoloured."""


@dataclass(frozen=True)
class Colour:
    """One role."""

    variable: str
    code: str
    """What matplotlib draws with, where the colour is put in afterwards; not that of another role."""
    light: str
    dark: str

    @property
    def stand_in(self) -> str:
        """What matplotlib draws with now."""
        return self.light if _PRINTED.get() else self.code


INK = Colour("--ink", "#010101", "#1d1f23", "#e9e7e2")
MUTED = Colour("--muted", "#010102", "#5d626b", "#a3a7ae")
GRID = Colour("--grid", "#010103", "#e4e2dc", "#33373d")
PAPER = Colour("--paper", "#010104", "#ffffff", "#1b1e22")

# Okabe and Ito's colours without the black, darker on white and lighter on black where the contrast was below 3 : 1.
SERIES = (
    Colour("--series-1", "#010111", "#d55e00", "#ff8340"),
    Colour("--series-2", "#010112", "#0064a3", "#5c9df0"),
    Colour("--series-3", "#010113", "#00875f", "#2cc79b"),
    Colour("--series-4", "#010114", "#b9508f", "#e79bc9"),
    Colour("--series-5", "#010115", "#2e93cc", "#93d8fa"),
    Colour("--series-6", "#010116", "#b87a00", "#f0b53a"),
    Colour("--series-7", "#010117", "#807400", "#f0e442"),
)
Line = Literal["-", "--", ":", "-."]
LINES: tuple[Line, ...] = ("-", "--", ":", "-.")

THEME = (INK, MUTED, GRID, PAPER, *SERIES)


def _rc() -> dict[str, Any]:
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": MUTED.stand_in,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": MUTED.stand_in,
        "axes.labelsize": 9.5,
        "axes.linewidth": 0.6,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK.stand_in,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "figure.facecolor": "none",
        "font.size": 9.5,
        "grid.color": GRID.stand_in,
        "grid.linewidth": 0.7,
        "image.composite_image": False,  # a raster goes into the file with one pixel a cell, not resampled
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "text.color": INK.stand_in,
        "text.parse_math": False,  # a name may hold dollars
        "xtick.color": MUTED.stand_in,
        "xtick.labelsize": 9.5,
        "xtick.major.size": 3.0,
        "xtick.major.width": 0.6,
        "ytick.color": MUTED.stand_in,
        "ytick.labelsize": 9.5,
        "ytick.major.size": 0.0,
    }


_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


@contextmanager
def printed() -> Iterator[None]:
    """Within it and ``styled``, figures are drawn in light colours, for :func:`as_pdf` and :func:`as_png`."""
    before = _PRINTED.set(True)
    try:
        with styled():
            yield
    finally:
        _PRINTED.reset(before)


@contextmanager
def styled() -> Iterator[None]:
    """Draw and render within it; matplotlib's settings are as they were afterwards."""
    # after_reset: a user's matplotlibrc must not change a figure.
    with matplotlib.style.context(_rc(), after_reset=True), warnings.catch_warnings():
        # A glyph that the measuring font lacks is drawn by the browser's font.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def colour_of(index: int) -> str:
    """What matplotlib draws the series of that number with: the baseline, which is the first, in ink, others in turn."""
    return _colour(index).stand_in


def variable_of(index: int) -> str:
    """The same as a variable of the page."""
    return _colour(index).variable


def _colour(index: int) -> Colour:
    return SERIES[(index - 1) % len(SERIES)] if index else INK


def style_of(index: int) -> tuple[str, Line]:
    """Colour and line of one series, different for 28 of them; the baseline is in ink.

    Neighbours differ in their lines too, so that one of two equal curves is seen through the gaps of the other.
    """
    cycle, colour = divmod(index - 1, len(SERIES))
    return colour_of(index), LINES[(colour % 2 + cycle) % len(LINES)] if index else "-"


def entitle(canvas: Canvas, title: str, size: float = 9) -> None:
    """A title above everything, from the left edge."""
    canvas.suptitle(title, x=0.01, ha="left", fontsize=size)


def columns(names: Sequence[str]) -> int:
    """How many of ``names`` fit beside each other in a narrow figure."""
    return 3 if all(len(name) <= 11 for name in names) else 2


def plain_numbers() -> FuncFormatter:
    """Ticks of a logarithmic axis as 0.001, not as powers of ten."""
    return FuncFormatter(lambda value, _: f"{value:g}")


def label_rows(axes: Axes, names: Sequence[str], first: int = 0) -> None:
    """A line of the axes for each of ``names``, the first on top, and a grid along the numbers only. ``first`` is the number
    of the first among the arms."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, color=INK.stand_in)
    for arm, label in enumerate(axes.get_yticklabels(), first):
        mark(label, arm=arm, label="")
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")


def render(canvas: Canvas, salt: str) -> str:
    """matplotlib's SVG of ``canvas``, the same bytes each time. ``salt`` keeps the ids of two figures apart."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        canvas.savefig(stream, format="svg", metadata={"Date": None})
    return placed(canvas, stream.getvalue())


def as_pdf(canvas: Canvas) -> bytes:
    """The figure as PDF, its text as text; the same bytes each time."""
    return _saved(canvas, format="pdf", metadata={"CreationDate": None})


def as_png(canvas: Canvas) -> bytes:
    """The figure as PNG, 300 pixels an inch."""
    return _saved(canvas, format="png", dpi=300, metadata={"Software": None})


def _saved(canvas: Canvas, **options: Any) -> bytes:
    stream = io.BytesIO()
    canvas.savefig(stream, facecolor=PAPER.light, **options)
    return stream.getvalue()


def for_page(drawn: str, name: str, title: str, description: str) -> str:
    """``drawn`` as an element of an HTML page that has the variables of ``THEME``."""
    root = _tidy(drawn, {colour.stand_in: f"var({colour.variable})" for colour in THEME}, marks=True)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    _describe(root, title, description, prefix=f"{name}-")
    return ElementTree.tostring(root, encoding="unicode")


def for_file(drawn: str, title: str, description: str) -> str:
    """``drawn`` as a file that stands alone: light colours on white."""
    root = _tidy(drawn, {colour.stand_in: colour.light for colour in THEME}, marks=False)
    _, _, width, height = root.attrib["viewBox"].split()
    root.set("width", f"{width}pt")
    root.set("height", f"{height}pt")
    root.set("font-family", _FONTS)
    root.insert(0, ElementTree.Element(f"{{{_SVG}}}rect", {"width": "100%", "height": "100%", "fill": PAPER.light}))
    _describe(root, title, description, prefix="")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _describe(root: ElementTree.Element, title: str, description: str, prefix: str) -> None:
    for position, (tag, text) in enumerate([("title", title), ("desc", description)]):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}")
        if prefix:
            element.set("id", prefix + {"title": "title", "desc": "description"}[tag])
        element.text = isolated(clean(text))
        root.insert(position, element)


def _tidy(drawn: str, colours: dict[str, str], marks: bool) -> ElementTree.Element:
    """Parse, recolour, and drop what is not seen: metadata, empty groups, a style sheet that would leak, long decimals.
    With ``marks`` the numbers beside its parts stay.

    It works on the parsed tree because text in the figure may come from the user and must stay as it is.
    """
    # The text is matplotlib's own, written a moment ago: there is no foreign XML to be wary of.
    root = ElementTree.fromstring(drawn)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    for element in root.iter():
        if element.tag.endswith(("}g", "}image")):
            # Nothing refers to these, and two equal images would have the same one.
            said = values_of(element.attrib.pop("id", None))
            if marks:
                element.attrib.update({f"data-{name}": value for name, value in said.items()})
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for key in ("d", "x", "y"):
            if key in element.attrib:
                element.set(key, _shorten(element.attrib[key]))
        if "style" in element.attrib:
            element.set("style", _restyle(element.attrib["style"], colours))
    _prune(root)
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    return root


def _prune(element: ElementTree.Element) -> None:
    """Remove what draws nothing below ``element``, and put the content of a group that says nothing in its place."""
    kept: list[ElementTree.Element] = []
    for child in element:
        _prune(child)
        child.tail = None
        kind = child.tag.rpartition("}")[2]
        invisible = (
            kind in ("metadata", "style")
            or (kind in ("g", "defs") and not len(child))
            or child.get("style") == "fill:none"
        )
        if kind == "g" and not child.attrib:
            kept.extend(child)
        elif not invisible:
            kept.append(child)
    if len(element):
        element.text = None
    element[:] = kept


def _shorten(numbers: str) -> str:
    """Coordinates to a hundredth of a point.

    >>> _shorten("M 12.345678 100.000000")
    'M 12.35 100'
    """
    shortened = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return " ".join(shortened.split())


def _restyle(style: str, colours: dict[str, str]) -> str:
    """Put the colours in, and leave the font's family to the page.

    >>> _restyle("font-size: 9px; font-family: 'DejaVu Sans', sans-serif; fill: #010101", {"#010101": "var(--ink)"})
    'font-size:9px;fill:var(--ink)'
    """
    style = re.sub(r"#[0-9a-f]{6}", lambda match: colours.get(match[0], match[0]), style)
    style = re.sub(r"font-family:[^;]*;?|stroke-linecap: square;?", "", style)
    return re.sub(r"\s*([:;])\s*", r"\1", style).strip("; ")
