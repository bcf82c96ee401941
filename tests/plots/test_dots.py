"""Dot plots: where the dots are, and which runs are outside the axis."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from undying.plots.dots import Cases, Row, dots, ratios
from undying.plots.theme import NARROW, styled

ROWS = [
    Row("relu", "10.0", 10.0, 9.0, 11.0, [9.5, 10.5], [-0.5, 0.5]),
    Row("sugar", "12.0", 12.0, 11.0, 13.0, [12.5, -80.0], [-0.5, 0.5]),
    Row("tanh", "unknown", None),
]


def marks(canvas: Figure, marker: str) -> list[tuple[float, float]]:
    """(x, y) of every mark of this kind."""
    drawn = [line for line in canvas.axes[0].lines if line.get_marker() == marker]
    return [pair for line in drawn for pair in zip(line.get_xdata(), line.get_ydata(), strict=True)]


@pytest.mark.parametrize("far", [False, True])
def test_a_run_far_from_every_mean_is_a_triangle_at_the_edge_unless_all_are_to_be_seen(far: bool) -> None:
    with styled():
        canvas = dots(ROWS, "accuracy", NARROW, far=far)
    low, high = canvas.axes[0].get_xlim()
    assert (low < -80) == far
    assert high > 13
    assert ((-80.0, 1.26) in marks(canvas, "o")) == far
    assert marks(canvas, "<") == ([] if far else [(low, 1.26)])
    assert {(10.0, 0), (12.0, 1), (9.5, -0.26), (10.5, 0.26), (12.5, 0.74)} <= set(marks(canvas, "o"))


def test_names_and_means_stand_beside_the_lines_and_the_first_mean_is_dashed() -> None:
    with styled():
        canvas = dots(ROWS, "accuracy", NARROW)
    axes = canvas.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["relu", "sugar", "tanh"]
    assert [text.get_text() for text in axes.texts] == ["10.0", "12.0", "unknown"]
    assert axes.get_ylim() == (2.5, -0.5)  # the first on top
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(dashed.get_xdata()) == [10, 10]
    intervals = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2.2]
    assert intervals == [[9, 11], [11, 13]]


def test_ratios_have_every_case_of_a_line_the_limit_and_1() -> None:
    with styled():
        canvas = ratios([Cases("a", "#010111", [(0.9, 1.0, 1.1), (1.9, 2.0, 2.1)])], "times", 1.0111, "title")
    axes = canvas.axes[0]
    assert marks(canvas, "o") == [(1.0, 0), (2.0, 0)]
    assert axes.get_xscale() == "log"
    assert [line.get_xdata()[0] for line in axes.lines[-2:]] == [1, 1.0111]
