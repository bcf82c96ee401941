"""What notebooks show of a comparison, a conversion and a recycling: escaped, and in the notebook's own colours."""

import html
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

import undying


def rows_of(page):
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page)
    ]


def test_results_have_a_row_an_activation(results):
    head, *rows = rows_of(results._repr_html_())
    assert len(results) == len(rows) == 6
    assert [row[0] for row in rows] == [activation.name for activation in results]
    assert head[2:4] == ["Test accuracy (%) [95 %]", "minus relu [95 %]"]
    for row, activation in zip(rows, results, strict=True):
        mean, low, high = (float(number) for number in re.findall(r"[\d.]+", row[2]))
        score = activation.score
        assert (mean, low, high) == pytest.approx([100 * v for v in (score.mean, score.low, score.high)], abs=0.051)
        if found := activation.comparison:
            ends = [float(number) for number in re.findall(r"-?[\d.]+", row[3])]
            assert ends == pytest.approx([100 * v for v in (found.difference, found.low, found.high)], abs=0.051)
            assert float(row[4]) == pytest.approx(found.p_holm, rel=0.01)
            assert row[5] == found.verdict
    assert rows[0][3:] == ["", "", ""]


def test_results_without_an_interval_and_with_runs_missing(make_results):
    results = make_results(["relu", "<b>silu</b>"], seeds=1, epochs=1, sites=["a"])
    page = replace(results, planned=6)._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;silu&lt;/b&gt;" in page
    assert "2 of 6 runs are finished" in page
    assert "[" not in rows_of(page)[2][2]


def reports():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].bias[2] = -100.0
    x = torch.randn(20, 4)
    counted = undying.census(net, x)
    recycled = undying.recycle_(net, census=counted, probe=x)
    return [counted, counted["1"], recycled, undying.convert_(net, undying.SUGAR())]


def test_reports_can_be_counted_and_gone_through():
    counted, site, recycled, converted = reports()
    assert (list(counted), len(site)) == (["1", "3"], 6)
    assert [row.name for row in recycled] == [row.name for row in recycled.rows]
    assert len(recycled) == len(recycled.rows) > 0
    assert [row.name for row in converted] == ["1", "3"]
    assert len(converted) == 2


def test_views_bring_no_colours_of_their_own(results):
    for view in [*reports(), results]:
        page = view._repr_html_()
        assert not re.search(r"style|color|background|<script", page)
        assert page.startswith(("<table>", "<p>"))
