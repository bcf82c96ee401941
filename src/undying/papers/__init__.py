"""Reproduce: each table of the papers as a declaration, expanded to runs of the lab, and what the runs say of its claims.

table -> plan -> (the lab's executors and store) -> results -> analysis -> page; ``run`` does all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undying.papers.pipeline import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: a worker process that builds one of the papers' networks needs no figures.
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from undying.papers.pipeline import run

    return run
