"""One figure: as matplotlib has it, and as a page and a file have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure as Canvas

from undying.plots.theme import for_file, for_page, render


@dataclass(frozen=True)
class Drawing:
    """One figure as matplotlib has it."""

    canvas: Canvas
    name: str
    """Stem of its file and prefix of its ids."""
    title: str
    caption: str
    alt: str
    """The finding in words, with the numbers."""
    data: Any = None
    """What the page's script shows beside it: plain data for JSON."""
    arms: Sequence[int] = ()
    """The page's numbers of the arms that it shows, in its own order; empty: all of the page's."""

    def placed(self, salt: str = "") -> Figure:
        """Ready for a page and as an SVG file; ``salt`` is what the ids within go by, by default the name."""
        drawn = render(self.canvas, salt or self.name)
        page = for_page(drawn, self.name, self.title, self.alt)
        return Figure(**vars(self), page=page, file=for_file(drawn, self.title, self.alt))


@dataclass(frozen=True, kw_only=True)
class Figure(Drawing):
    """One figure, ready to be placed."""

    page: str
    """SVG element for the page."""
    file: str
    """SVG file."""
