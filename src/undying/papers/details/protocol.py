"""What every section has: it is read from the runs of one task, and is shown as a table and as figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure as Canvas

from undying.lab.execution import Execution
from undying.lab.store import Store
from undying.papers.plan import Plan
from undying.papers.results import RunResult
from undying.papers.table import Scale, Task

Drawn = dict[str, tuple[Canvas, str, str]]
"""Kind of figure -> figure, title, description."""


class Section(ABC):
    """What the page of a table has of one task, beside accuracies."""

    task: Task

    @classmethod
    @abstractmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Section | None:
        """From the runs of ``task`` among ``results``, and from their files in ``store`` where their lines do not say it.

        Returns:
            None if no run has anything to show.

        Raises:
            UndyingError: a file cannot be read.
        """

    @abstractmethod
    def table(self) -> list[str]:
        """A paragraph and its table, in markdown."""

    @abstractmethod
    def figures(self, scale_name: str) -> Drawn:
        """In the order of the page. Called within matplotlib's style of the page."""

    def complete(self, result: RunResult) -> RunResult:
        """``result`` with the numbers that this section knows of it. Most know none."""
        return result

    @classmethod
    def announce(cls, scale: Scale) -> str:
        """What ``compute`` will do, for the printed plan. Empty if it does nothing."""
        return ""

    @classmethod
    def compute(cls, plan: Plan, execution: Execution, store: Store, say: Callable[[str], object]) -> None:
        """After training: compute what the runs do not have yet, and keep it in their folders. Most compute nothing.

        Raises:
            UndyingError: a run cannot be read, or nothing can be written.
        """
        return


def at_its_rate(task: Task, results: Sequence[RunResult]) -> list[RunResult]:
    """The task's runs at the table's rate, arm by arm in the order of the table."""
    own = [o for o in results if o.planned.task == task.name and o.planned.config.lr == task.lr]
    return [o for arm in task.arms for o in own if o.planned.arm == arm]
