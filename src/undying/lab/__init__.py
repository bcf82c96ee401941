"""Compare: settings -> runs -> store -> statistics. Nothing here draws; ``undying.report`` does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undying.lab.comparison import compare
    from undying.lab.execution import Execution
    from undying.lab.settings import Settings
    from undying.lab.tasks.task import Task
    from undying.statistics.metric import Metric
    from undying.statistics.paired import compare_scores

__all__ = ["Execution", "Metric", "Settings", "Task", "compare", "compare_scores"]

_HOMES = {
    "Execution": "undying.lab.execution",
    "Metric": "undying.statistics.metric",
    "Settings": "undying.lab.settings",
    "Task": "undying.lab.tasks.task",
    "compare": "undying.lab.comparison",
    "compare_scores": "undying.statistics.paired",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: every worker process imports this package, and none needs the statistics.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
