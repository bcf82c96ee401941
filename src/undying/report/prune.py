"""What a pruning did, as a page."""

from __future__ import annotations

from collections.abc import Sequence

from undying._version import __version__
from undying.plots.theme import THEME
from undying.report.html import environment
from undying.treat.prune.report import PruneReport


def prune_page(report: PruneReport, facts: Sequence[tuple[str, str]]) -> str:
    """The whole HTML document; ``facts`` say of which network and on what."""
    return (
        environment().get_template("prune.html.j2").render(report=report, facts=facts, undying=__version__, theme=THEME)
    )
