"""The page of runs that are still trained."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from stores import finish, prepared, stop_in
from undying._base.lock import Lock
from undying.lab import Settings
from undying.lab.plan import stored
from undying.report import live
from undying.report.live import LivePage

from .test_html import Page, check_scripts


@pytest.fixture
def sweep(tmp_path: Path) -> Any:
    """Two of four runs finished, one under way."""
    store, configs = prepared(tmp_path, Settings(activations=("relu", "sugar:nelu"), seeds=2, epochs=4))
    for config in configs:
        if config.seed == 0:
            finish(store, config)
    other = next(config for config in configs if config.seed == 1)
    stop_in(store, other, 3)
    return store, configs, other


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", html.split("</section>")[0], re.DOTALL)
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def wait_for(path: Path, words: str) -> str:
    for _ in range(2000):
        if path.exists() and words in (text := path.read_text(encoding="utf-8")):
            return text
        time.sleep(0.05)
    raise AssertionError(f"{words} never came")


def test_the_page_tells_the_runs_and_follows_them(sweep: Any) -> None:
    store, _, other = sweep
    plan = stored(store, store.settings())
    page = LivePage(plan)
    with Lock(store.out / "runs" / other.id), page:
        html = wait_for(page.path, "2 of 4 runs finished")
        assert 'data-state="running"' in html
        check_scripts(html)
        Page(html)
        assert '<noscript><meta http-equiv="refresh"' in html
        arms, under_way = cells(html)[:2], cells(html)[2:]
        assert [row[:4] for row in arms] == [
            [name, "1", str(int(name == other.activation)), "2"] for name in plan.settings.activations
        ]
        [state] = [run.epochs for run in plan.finished.values() if run.config.activation == "relu"]
        assert arms[0][4] == f"{100 * state[-1]['test_accuracy']:.1f} %"
        assert [row[:3] for row in under_way] == [[other.activation, "1", "2 of 4"]]
        # The next epoch, as the run's process writes it.
        metrics = store.out / "runs" / other.id / "metrics.jsonl"
        line = metrics.read_text().splitlines()[-1].replace('"epoch": 2', '"epoch": 3')
        with metrics.open("a") as file:
            file.write(line + "\n")
        wait_for(page.path, "<td>3 of 4</td>")
    assert 'data-state="running"' in page.path.read_text()  # the report replaces it


def test_a_sweep_that_ends_early_leaves_a_page_that_says_so(sweep: Any) -> None:
    store, _, _ = sweep
    page = LivePage(stored(store, store.settings()))

    def stopped() -> None:
        with page:
            wait_for(page.path, "2 of 4 runs finished")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    html = page.path.read_text()
    assert 'data-state="stopped"' in html
    assert html.rstrip().endswith("</html>")


def test_a_page_without_news_stays_young(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, _ = sweep
    page = LivePage(stored(store, store.settings()))
    now = [1000.0]
    monkeypatch.setattr(live.time, "time", lambda: now[0])
    page._look()
    first = page.path.read_bytes()
    now[0] += 15
    page._look()
    assert page.path.read_bytes() == first
    now[0] += 15
    page._look()
    assert b'data-written="1030000"' in page.path.read_bytes()


def test_figures_are_drawn_of_what_is_finished(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, _ = sweep
    monkeypatch.setattr(live, "_DRAWINGS", 0)
    page = LivePage(stored(store, store.settings()))
    with page:
        html = wait_for(page.path, 'aria-labelledby="layers-silent-caption"')
    assert 'data-state="running"' in html
    assert "Partial: 2 of 4 runs finished" in html
    check_scripts(html)
    assert "results.csv" not in html  # which is written in the end


def test_a_sweep_that_is_resumed_goes_on_with_the_figures_that_were_there(sweep: Any) -> None:
    """The report of 12 of 18 runs was replaced by a page without a figure, until the end."""
    store, _, _ = sweep
    path = store.out / "report.html"
    path.write_text("the report of the finished runs")
    pages = set()
    with LivePage(stored(store, store.settings())):
        while 'data-state="running"' not in (html := path.read_text(encoding="utf-8")):
            pages.add(html)
            time.sleep(0.01)
    assert pages <= {"the report of the finished runs"}  # no page without figures in between
    assert 'aria-labelledby="layers-silent-caption"' in html
    assert "Partial: 2 of 4 runs finished" in html


def test_the_page_is_that_of_the_comparison_that_began_last(sweep: Any) -> None:
    """A sweep in the same folder wrote its own page over the finished report of another."""
    store, _, _ = sweep
    mine = stored(store, store.settings())
    page = LivePage(mine)
    page._look()
    assert "No figures yet" in page.path.read_text(encoding="utf-8")
    prepared(store.out, Settings(activations=("relu", "gelu"), seeds=2, epochs=4))
    page.path.write_text("the other one's report")
    page._seen = ()
    page._look()
    assert page.path.read_text() == "the other one's report"

    def stopped() -> None:
        with page:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert page.path.read_text() == "the other one's report"
    store.prepare(mine.settings, mine.data)  # the same command again
    page._look()
    assert "No figures yet" in page.path.read_text(encoding="utf-8")


def test_runs_that_diverged_are_named(tmp_path: Path) -> None:
    store, configs = prepared(tmp_path, Settings(activations=("relu", "gelu"), seeds=3, epochs=2))
    for config in configs:
        if config.activation == "gelu":
            finish(store, config, diverged=True)
        elif config.seed < 2:
            finish(store, config, diverged=config.seed == 1)
    page = LivePage(stored(store, store.settings()))
    page._look()
    html = page.path.read_text(encoding="utf-8")
    assert [[row[1], row[4]] for row in cells(html)] == [["2 1 diverged", "–"], ["3 all diverged", "–"]]


def test_nothing_is_written_where_nothing_is_missing(tmp_path: Path) -> None:
    store, configs = prepared(tmp_path, Settings(activations=("relu", "gelu"), seeds=1, epochs=1))
    for config in configs:
        finish(store, config)
    before = threading.active_count()
    with LivePage(stored(store, store.settings())) as page:
        assert threading.active_count() == before
    assert not page.path.exists()


def test_a_folder_that_cannot_be_written_stops_nothing(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, _ = sweep
    tried = threading.Event()

    def full(*_: object) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live, "write_text", full)
    page: Callable[..., Any] = LivePage
    with page(stored(store, store.settings())):
        assert tried.wait(60)
