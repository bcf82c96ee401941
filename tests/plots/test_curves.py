"""Curves: what of them is drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from undying.plots.curves import Line, Panel, by_rate, lines, multiples, numbers, panels
from undying.plots.marks import values_of
from undying.plots.theme import styled


def shown(canvas: Figure, axes: int = 0) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in canvas.axes[axes].lines]


def test_epochs_without_a_count_leave_no_gap() -> None:
    """Units are counted after some epochs only: the line goes from one to the next, and ends where a run diverged."""
    middle, low, high = (numbers(of, 100) for of in ([0.1, 0.2, None, 0.4, None], [0, 0.1, None, 0.3, None], [1.0] * 5))
    line = Line("a", range(5), middle, low, high).measured()
    assert line.x == [0, 1, 3]
    assert line.middle == pytest.approx([10, 20, 40])
    assert line.low == pytest.approx([0, 10, 30])
    assert line.high == pytest.approx([100] * 3)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    line = Line("a", range(1000), [float(i) for i in range(1000)]).measured(40)
    assert len(line.x) == 40
    assert (line.x[0], line.x[-1]) == (0, 999)
    assert line.middle == list(line.x)
    steps = {b - a for a, b in zip(line.x, line.x[1:], strict=False)}
    assert steps <= {25, 26}


def test_a_panel_has_every_line_and_a_logarithmic_axis_only_for_a_wide_range() -> None:
    a, b = Line("a", [0, 1], [1.0, 100.0], [1, 90], [2, 110]), Line("b", [0, 1], [2.0, math.nan], [1, 1], [3, 3])
    with styled():
        canvas = panels([Panel("wide", [a, b], log=True), Panel("also", [a, b]), Panel("narrow", [b, b], log=True)])
    assert shown(canvas) == [([0, 1], [1, 100]), ([0], [2])]
    assert canvas.axes[0].lines[1].get_marker() == "o"  # one point is no line
    assert [axes.get_yscale() for axes in canvas.axes] == ["log", "linear", "linear"]


def test_small_panels_each_have_the_first_line() -> None:
    of = [Line(name, [0, 1], [i, i + 1.0], [i, i], [i + 2, i + 2]) for i, name in enumerate("abcdef")]
    with styled():
        canvas = multiples(Panel("all", of))
    visible = [i for i, axes in enumerate(canvas.axes) if axes.get_visible()]
    assert [canvas.axes[i].get_title(loc="left") for i in visible] == list("bcdef")
    assert all(shown(canvas, i) == [([0, 1], [0, 1]), ([0, 1], [i + 1, i + 2])] for i in visible)


@pytest.mark.parametrize("letters", [12, 40])
def test_titles_of_small_panels_do_not_run_into_each_other(letters: int) -> None:
    line = Line("W" * letters, range(3), [1.0, 2.0, 3.0], [0.5, 1.0, 2.0], [2.0, 3.0, 4.0])
    with styled():
        canvas = multiples(Panel("Accuracy", [line] * 9))
        canvas.draw_without_rendering()
        found = canvas.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().startswith("W"))
        titles = [title.get_window_extent() for title in found]
        assert all("label" in values_of(title.get_gid()) for title in found)  # grey where its arm is switched off
    assert len(titles) == 8
    by_row = sorted(titles, key=lambda box: (-round(box.y0), box.x0))
    for left, right in pairwise(by_row):
        assert left.y0 - right.y0 > 5 or left.x1 < right.x0
    assert by_row[-1].x1 <= canvas.bbox.x1 + 1


def test_the_rate_that_was_chosen_has_a_ring() -> None:
    with styled():
        canvas = by_rate([Line("a", [0.1, 1.0], [5.0, 6.0]), Line("b", [0.1], [7.0])], {"a": 1.0}, "y", "title")
    assert shown(canvas) == [([0.1, 1], [5, 6]), ([1], [6]), ([0.1], [7])]
    assert canvas.axes[0].lines[1].get_fillstyle() == "none"
    assert list(canvas.axes[0].get_xticks()) == [0.1, 1]


def test_only_the_first_of_many_lines_has_a_band() -> None:
    of = [Line(name, [0, 1], [1, 2], [0, 1], [2, 3]) for name in "ab"]
    with styled():
        canvas = lines(of, "steps", "reward", "title")
    (band,) = canvas.axes[0].collections
    assert band.get_paths()[0].get_extents().extents.tolist() == [0, 0, 1, 3]
    assert [text.get_text() for text in canvas.axes[0].get_legend().get_texts()] == ["a", "b"]
