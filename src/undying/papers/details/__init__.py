"""The sections that a page can have beside accuracies: a module each, which reads, tabulates and draws one of them."""

from __future__ import annotations

from collections.abc import Sequence

from undying.lab.store import Store
from undying.papers.details.landscape import Landscapes
from undying.papers.details.norms import Norms
from undying.papers.details.online import Online
from undying.papers.details.profile import Profile
from undying.papers.details.protocol import Section
from undying.papers.details.readings import Readings
from undying.papers.details.sparsity import Sparsity
from undying.papers.plan import Plan
from undying.papers.results import RunResult
from undying.papers.table import Table

__all__ = ["SECTIONS", "read_sections"]

SECTIONS: dict[str, type[Section]] = {
    "norms": Norms,
    "profile": Profile,
    "landscape": Landscapes,
    "readings": Readings,
    "sparsity": Sparsity,
    "online": Online,
}
"""By what ``Table.shows`` calls them."""


def read_sections(
    table: Table, plan: Plan, results: Sequence[RunResult], store: Store
) -> tuple[tuple[RunResult, ...], tuple[Section, ...]]:
    """What ``table`` shows of each task that has runs.

    Returns:
        ``results`` with what the sections add to them, and the sections.

    Raises:
        UndyingError: a file cannot be read.
    """
    if not table.shows:
        return tuple(results), ()
    found = (SECTIONS[table.shows].read(task, plan.scale, results, store) for task in plan.scale.tasks)
    sections = tuple(section for section in found if section is not None)
    for section in sections:
        results = [section.complete(result) for result in results]
    return tuple(results), sections
