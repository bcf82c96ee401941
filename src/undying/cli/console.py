"""Where the commands print."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from undying._base.text import clean


class SafeConsole(Console):
    """A console whose texts, wherever their words come from, hold nothing that a terminal obeys; styles and rich's own
    controls of the cursor stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)
