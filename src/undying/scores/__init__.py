"""Runs that others trained: scores from tables, W&B and TensorBoard, as results with the statistics and page of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from undying.scores.reading import Reading

if TYPE_CHECKING:
    from undying.scores.read import read_scores

__all__ = ["Reading", "read_scores"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command line's help needs no statistics.
    if name != "read_scores":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from undying.scores.read import read_scores

    return read_scores
