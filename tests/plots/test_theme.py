"""The colours of every figure, and that drawing leaves no trace."""

from __future__ import annotations

import matplotlib
import pytest
from matplotlib.figure import Figure

from undying.plots.theme import PAPER, THEME, for_file, for_page, label_rows, render, style_of, styled


def test_lines_can_be_told_apart() -> None:
    assert len({style_of(index) for index in range(29)}) == 29


def test_stand_ins_are_distinct() -> None:
    for field in ("variable", "stand_in", "light", "dark"):
        assert len({getattr(colour, field) for colour in THEME}) == len(THEME)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_paper(scheme: str) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper = luminance(getattr(PAPER, scheme))
    for colour in THEME:
        own = luminance(getattr(colour, scheme))
        contrast = (max(own, paper) + 0.05) / (min(own, paper) + 0.05)
        # WCAG: 4.5 for text, 3 for graphics; the grid and the paper are meant to stay back.
        least = {"--ink": 4.5, "--muted": 4.5, "--grid": 1.0, "--paper": 1.0}.get(colour.variable, 3.0)
        assert contrast >= least, (colour.variable, contrast)


def test_the_user_s_settings_have_no_part_in_a_figure() -> None:
    def drawn() -> str:
        with styled():
            canvas = Figure()
            label_rows(canvas.add_subplot(), ["a", "b"])
            return render(canvas, "salt")

    plain = drawn()
    with matplotlib.rc_context({"font.size": 77.0, "axes.grid": False}):
        assert drawn() == plain
        assert matplotlib.rcParams["font.size"] == 77.0


def test_a_page_s_copy_follows_the_page_and_a_file_has_its_own_colours() -> None:
    with styled():
        canvas = Figure()
        label_rows(canvas.add_subplot(), ["<a>"])
        svg = render(canvas, "salt")
    page, file = for_page(svg, "name", "Title", "What it shows"), for_file(svg, "Title", "What it shows")
    assert "var(--ink)" in page
    assert "var(" not in file
    for copy in (page, file):
        assert not [colour for colour in THEME if colour.stand_in in copy]
        assert "&lt;a&gt;" in copy
        assert "What it shows" in copy
