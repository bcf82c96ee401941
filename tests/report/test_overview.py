"""One page for several comparisons."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from undying._base.errors import UndyingError
from undying.lab.results import Results
from undying.report.drawing import Figure
from undying.report.figures import draw_few
from undying.report.overview import overview, rows_of
from undying.report.terminal import print_overview
from undying.report.words import percent

from .test_html import HOSTILE, Page, check_scripts, drawings


def with_means(results: Results, means: dict[str, float]) -> Results:
    """The same with other mean accuracies; activations that are not named are left out."""
    activations = [
        replace(activation, scores={"accuracy": replace(activation.score, mean=means[activation.name])})
        for activation in results.activations
        if activation.name in means
    ]
    return replace(results, activations=activations)


@pytest.fixture(scope="module")
def pair(make_results: Callable[..., Results]) -> list[tuple[Path, Results]]:
    names = ["relu", "leaky_relu", "sugar:bsilu"]
    return [(Path(data), make_results(names, seeds=6, epochs=3, data=data)) for data in ("digits", "cifar10")]


def test_ranks_are_means_over_the_comparisons_of_those_that_all_have(make_results: Callable[..., Results]) -> None:
    names = ["relu", "gelu", "silu", "barelu"]
    whole = make_results(names, seeds=2, epochs=1)
    rows = rows_of(
        [
            with_means(whole, {"relu": 0.5, "gelu": 0.9, "silu": 0.5, "barelu": 0.99}),
            with_means(whole, {"relu": 0.7, "gelu": 0.8, "silu": 0.6}),
        ]
    )
    # relu and silu share the places 2 and 3 in the first; barelu is not in the second.
    assert [(row.name, row.rank) for row in rows] == [("relu", 2.25), ("gelu", 1.0), ("silu", 2.75), ("barelu", None)]
    assert rows[3].results[1] is None


def test_the_table_holds_every_mean_and_verdict(pair: list[tuple[Path, Results]]) -> None:
    html = overview(pair)
    parsed = Page(html)
    table = html[html.index('<table class="overview">') : html.index("</table>") + len("</table>")]
    said = " ".join(Page(table).text.split())
    for _, results in pair:
        for activation in results.activations:
            assert percent(activation.score.mean) in said
    assert said.count("baseline") == 2
    assert said.count("higher") + said.count("lower") + said.count("no difference detected") == 4
    assert parsed.tags["h1"] == 1
    assert len(drawings(html)) == 10
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    used = {word for name in ("aria-labelledby", "aria-describedby") for v in parsed.values(name) for word in v.split()}
    used |= {value[1:] for value in parsed.values("href") if value.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert used <= set(ids)
    check_scripts(html)


def test_a_partial_comparison_is_marked(pair: list[tuple[Path, Results]]) -> None:
    (one, whole), (two, results) = pair
    text = " ".join(Page(overview([(one, whole), (two, replace(results, planned=30))])).text.split())
    assert "cifar10: Partial: 18 of 30 runs finished." in text
    assert "cifar10 partial" in text
    assert "digits partial" not in text


def test_comparisons_on_the_same_data_are_told_apart(make_results: Callable[..., Results]) -> None:
    one = make_results(["relu", "gelu"], seeds=2, epochs=1)
    other = replace(one, settings={**one.settings, "model": "resnet18"})
    text = " ".join(Page(overview([(Path("a"), one), (Path("b"), other), (Path("c"), one)])).text.split())
    for title in ("digits, mlp (1)", "digits, resnet18", "digits, mlp (3)"):
        assert title in text


def test_comparisons_are_named_by_the_settings_that_differ(make_results: Callable[..., Results]) -> None:
    one = make_results(["relu", "gelu"], seeds=2, epochs=1)
    changes = [{}, {"lr": 0.1}, {"lr": 0.1, "batch_size": 8}, {"model": "resnet18"}]
    all_results = [replace(one, settings={**one.settings, **change}) for change in changes]
    text = " ".join(Page(overview([(Path(str(i)), results) for i, results in enumerate(all_results)])).text.split())
    for title in (
        "digits, mlp, lr 0.01, batch size 64",
        "digits, mlp, lr 0.1, batch size 64",
        "digits, mlp, lr 0.1, batch size 8",
        "digits, resnet18",
    ):
        assert title in text
    text = " ".join(Page(overview([(Path("a"), all_results[0]), (Path("b"), all_results[1])])).text.split())
    assert "digits, lr 0.01" in text
    assert "digits, lr 0.1 " in text


def test_another_baseline_is_refused(make_results: Callable[..., Results]) -> None:
    one, other = make_results(["relu", "gelu"], seeds=2, epochs=1), make_results(["gelu", "relu"], seeds=2, epochs=1)
    with pytest.raises(UndyingError, match="relu in a, gelu in b"):
        overview([(Path("a"), one), (Path("b"), other)])


def test_hostile_names_are_text(make_results: Callable[..., Results]) -> None:
    results = make_results(HOSTILE, seeds=2, epochs=1, data=HOSTILE[1])
    html = overview([(Path(HOSTILE[5]), replace(results, command=HOSTILE[5]))] * 2)
    parsed = Page(html)
    check_scripts(html)
    assert parsed.text.count(HOSTILE[1]) > 3


def test_twenty_activations_thirty_seeds_and_five_data_sets_stay_below_four_megabytes(
    make_results: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["relu", *(f"sugar:nelu:a={index}" for index in range(19))]
    results = [make_results(names, seeds=30, epochs=100, data=f"data{i}") for i in range(5)]
    # Drawn once, since it takes seconds and the five have the same numbers: only ids differ.
    drawn = draw_few(results[0], "c1-")

    def renamed(_: Results, prefix: str) -> list[Figure]:
        return [
            replace(figure, name=figure.name.replace("c1-", prefix), page=figure.page.replace("c1-", prefix))
            for figure in drawn
        ]

    monkeypatch.setattr("undying.report.overview.draw_few", renamed)
    html = overview([(Path(f"out{i}"), each) for i, each in enumerate(results)])
    parsed = Page(html)
    assert len(html.encode()) < 4_000_000
    assert all(parsed.text.count(name) >= 10 for name in names)
    # Nothing is longer than a screen or two before a reader unfolds it: the sections begin folded but for one's figures.
    assert html.count("<details open>") == 1


def test_the_terminal_names_each(pair: list[tuple[Path, Results]]) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_overview(pair, Path("all.html"), console)
    text = console.export_text()
    assert "cifar10: mlp on cifar10" in text
    assert text.strip().endswith("report: all.html")
    assert max(map(cell_len, text.splitlines())) <= 80
