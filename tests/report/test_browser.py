"""The page in a browser: Debian's Chromium, driven by Playwright, which loads none of its own.

Where there is no Chromium these tests are skipped and say so; what they rest on in the document is in ``test_html.py``.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from undying.lab.results import Results
from undying.report.drawing import Figure
from undying.report.figures import draw
from undying.report.html import page
from undying.statistics.records import Curve

CHROMIUM = os.environ.get("UNDYING_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip(
        "there is no chromium: apt-get install chromium, or name one in UNDYING_CHROMIUM", allow_module_level=True
    )
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is in the group dev")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(results: Results, drawn: list[Figure], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(results, drawn), encoding="utf-8")
    return path


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page, and in the end holds against it every message on the console, every error and every request."""
    contexts, said = [], []

    def open_page(path: Path, *, scripts: bool = True, width: int = 1280, **options: Any) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, java_script_enabled=scripts, accept_downloads=True, **options
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or said.append(request.url)
        )
        tab.goto(path.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def figure(tab: Any, title: str) -> Any:
    return tab.locator("figure", has=tab.locator("figcaption b", has_text=re.compile(f"^{title}")))


def content(download: Any) -> bytes:
    return Path(download.path()).read_bytes()


def test_without_scripts_everything_is_there(opened: Callable[..., Any], report: Path, results: Results) -> None:
    tab = opened(report, scripts=False)
    assert tab.locator("button:visible, input:visible").count() == 0
    assert tab.locator("figure svg").count() == 9
    fold = tab.locator(".verdicts details").first
    sentence = fold.locator(".sentence")
    assert not sentence.is_visible()
    fold.locator("summary").click()
    assert sentence.is_visible()
    tab.locator("nav a", has_text="Layers").click()
    assert tab.locator("table.layers").is_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_no_wider_than_its_window_and_answers_first(
    opened: Callable[..., Any], report: Path, width: int
) -> None:
    tab = opened(report, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for what in ("h1", ".lead", ".seeds", "header figure svg"):
        box = tab.locator(what).first.bounding_box()
        assert box["y"] < 800, what
    frame = tab.locator(".tall").first
    assert frame.evaluate("e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX === 'auto'")


def test_values_under_the_pointer(opened: Callable[..., Any], report: Path, results: Results) -> None:
    tab = opened(report)
    svg = figure(tab, "Learning curves").locator("svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 12, box["y"] + 0.35 * box["height"])
    tip = tab.locator("#tip").inner_text()
    assert "Epoch 15" in tip
    for activation in results.activations:
        last = 100 * activation.curves["test_accuracy"].median[-1]
        assert f"{activation.name} {last:.4g} [" in tip
    dot = figure(tab, "Test accuracy after").locator('[data-arm="3"][data-notes*="seed"] use').nth(2)
    dot.scroll_into_view_if_needed()
    place = dot.bounding_box()
    tab.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    bsilu = results.activations[3]
    said = tab.locator("#tip").inner_text().split("\n")
    values = {f"seed {seed}: {100 * value:.1f} %" for seed, value in enumerate(bsilu.score.values)}
    assert said[0] == "sugar:bsilu"
    assert said[1] in values
    image = figure(tab, "Silent units by layer").locator("image").first
    image.scroll_into_view_if_needed()
    place = image.bounding_box()
    tab.mouse.move(place["x"] + place["width"] - 2, place["y"] + 2)
    first = results.baseline.sites[0]
    assert f"{first.name}, epoch 15: {100 * first.silent[-1]:.1f} %" in tab.locator("#tip").inner_text()


def column(table: Any, at: int) -> list[str]:
    return [text.split("\n")[0] for text in table.locator(f"tbody tr:visible > *:nth-child({at})").all_inner_texts()]


def test_tables_sort_filter_and_are_saved(opened: Callable[..., Any], report: Path, results: Results) -> None:
    tab = opened(report)
    table = tab.locator("table").first
    names = [activation.name for activation in results.activations]
    assert column(table, 1) == names
    shown = {activation.name: round(100 * activation.score.mean, 1) for activation in results.activations}
    table.locator("th .sort", has_text="Test accuracy").click()
    assert column(table, 1) == sorted(names, key=lambda name: -shown[name])  # of equal ones the first stays first
    table.locator("th .sort", has_text="Test accuracy").click()
    assert column(table, 1) == sorted(names, key=shown.__getitem__)
    # What has no number comes last: the baseline has no difference.
    table.locator("th .sort", has_text="Difference").click()
    assert column(table, 1)[-1] == "relu"
    assert table.locator("th[aria-sort=descending]").count() == 1
    tab.get_by_label("Filter rows").first.fill("sugar")
    assert sorted(column(table, 1)) == ["sugar:bsilu", "sugar:nelu"]
    with tab.expect_download() as saved:
        tab.locator(".tools button", has_text="CSV").first.click()
    rows = list(csv.DictReader(io.StringIO(content(saved.value).decode())))
    assert [row["Activation"] for row in rows] == column(table, 1)
    by_name = {activation.name: activation for activation in results.activations}
    for row in rows:
        activation = by_name[row["Activation"]]
        numbers = [row[key] for key in row if key.startswith("Test accuracy")]
        found = [activation.score.mean, activation.score.low, activation.score.high]
        # In full: the page itself shows one decimal.
        assert [float(number) for number in numbers] == pytest.approx([100 * each for each in found], rel=1e-14)
        compared = activation.comparison
        assert [float(row[key]) for key in ("p (Holm)", "p (Holm) raw")] == pytest.approx(
            [compared.p_holm, compared.p], rel=1e-14
        )
        ends = [row[f"Difference, points{end}"] for end in ("", " low", " high")]
        wanted = [100 * each for each in (compared.difference, compared.low, compared.high)]
        assert [float(end) for end in ends] == pytest.approx(wanted, rel=1e-14)
        assert float(row["Effect size"]) == pytest.approx(compared.effect_size, rel=1e-14)
        assert float(row["Silent"]) == pytest.approx(100 * activation.silent.mean, rel=1e-14)
    with tab.expect_download() as saved:
        tab.locator(".tools button", has_text="LaTeX").first.click()
    tex = content(saved.value).decode()
    assert tex.count(r"\\") == 3
    assert r"92" in tex or r"97" in tex
    assert not re.search(r"(?<!\\)%(?! Needs)", tex)


def test_hostile_names_in_saved_tables(
    opened: Callable[..., Any], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    names = ["relu", "=1+1", "<script>document.title='ran'</script>", 'a,"b" & c_d%']
    path = tmp_path / "page.html"
    path.write_text(page(make_results(names, seeds=2, epochs=1, sites=names[1:]), []), encoding="utf-8")
    tab = opened(path)
    with tab.expect_download() as saved:
        tab.locator(".tools button", has_text="CSV").first.click()
    first = [row[0] for row in csv.reader(io.StringIO(content(saved.value).decode()))]
    assert first == ["Activation", "relu", "'=1+1", names[2], names[3]]
    with tab.expect_download() as saved:
        tab.locator(".tools button", has_text="LaTeX").first.click()
    assert r'a,"b" \& c\_d\%' in content(saved.value).decode()
    assert "ran" not in tab.title()


def test_an_arm_is_switched_off_on_all_figures(opened: Callable[..., Any], report: Path) -> None:
    tab = opened(report)
    tab.locator(".arms button", has_text="silu").last.click()
    hidden = tab.evaluate(
        """() => [...document.querySelectorAll('figure')].map(f => {
            const parts = [...f.querySelectorAll('[data-arm="5"]:not([data-label])')];
            return parts.length === 0 || parts.every(p => getComputedStyle(p).display === 'none') })"""
    )
    assert len(hidden) == 9
    assert all(hidden)
    assert tab.evaluate("document.querySelectorAll('figure [data-arm=\"4\"]:not([data-label]):not(.off)').length") > 8
    tab.locator(".arms button", has_text="silu").last.click()
    assert tab.locator("figure .off").count() == 0


def test_a_figure_of_some_arms_has_its_frame_and_their_names(
    opened: Callable[..., Any], results: Results, tmp_path: Path
) -> None:
    arms = list(results.activations)
    counts = Curve([0.0, 4.0, 9.0], [0.0, 3.0, 8.0], [0.0, 5.0, 10.0])
    arms[2] = replace(arms[2], recycled=arms[2].silent, curves={**arms[2].curves, "recycled": counts})
    path = tmp_path / "report.html"
    recycling = replace(results, activations=arms)
    path.write_text(page(recycling, draw(recycling)), encoding="utf-8")
    shown = figure(opened(path), "Recycled units")
    assert shown.evaluate("e => getComputedStyle(e).display") == "grid"
    assert shown.evaluate("e => getComputedStyle(e).borderTopWidth") == "1px"
    shown.locator("svg").hover()
    assert f"{results.activations[2].name} 4 [3, 5]" in shown.page.locator("#tip").inner_text()


def test_zoom_and_scale_show_the_numbers_where_they_are(
    opened: Callable[..., Any], report: Path, results: Results
) -> None:
    tab = opened(report)
    shown = figure(tab, "Learning curves")
    line = shown.locator('[data-y][data-arm="0"]').first
    path = line.locator("path").first
    before = path.get_attribute("d")
    shown.locator("button", has_text="Zoom to the data").click()
    ticks = [float(text) for text in shown.locator("[data-box]").first.locator("g.ticks text").all_text_contents()]
    assert min(ticks) > 80  # the axis was from 10 to 100
    box = [float(each) for each in shown.locator("[data-box]").first.get_attribute("data-box").split()]
    places = [float(each) for each in re.findall(r"-?[\d.]+", path.get_attribute("d"))][1::2]
    values = [100 * value for value in results.baseline.curves["test_accuracy"].median]
    # The tick's rule is where a value of that size would be drawn.
    rules = (
        shown.locator("[data-box]")
        .first.locator("g.ticks path")
        .evaluate_all("rules => rules.map(rule => rule.getAttribute('d'))")
    )
    heights = [float(re.findall(r"[\d.]+", rule)[1]) for rule in rules]
    slope = (heights[-1] - heights[0]) / (ticks[-1] - ticks[0])
    expected = [heights[0] + slope * (value - ticks[0]) for value in values]
    assert places == pytest.approx(expected, abs=0.1)
    assert box[1] <= places[-1] <= box[3]
    shown.locator("button", has_text="Log").click()
    assert path.get_attribute("d") != before
    shown.locator("button", has_text="Log").click()
    shown.locator("button", has_text="Zoom to the data").click()
    assert path.get_attribute("d") == before


def test_the_slider_names_the_units_of_an_epoch(opened: Callable[..., Any], report: Path, results: Results) -> None:
    tab = opened(report)
    shown = figure(tab, "Silent units by layer")
    slider = shown.locator("input[type=range]")
    slider.fill("3")
    assert "3 of 15" in shown.locator("output").inner_text()
    rows = shown.locator("table.layers tbody tr")
    for at, site in enumerate(results.baseline.sites):
        cell = rows.nth(at).locator("td").first.inner_text()
        assert cell.startswith(f"{100 * site.silent[3]:.1f} %")
        change = 128 * (round(site.silent[3], 3) - round(site.silent[2], 3))
        assert float(cell.split("\n")[-1].replace("−", "-").replace("±", "")) == pytest.approx(change, abs=0.051)
    assert shown.locator("svg .now").count() == len(results.activations)


def test_the_slider_names_what_died_and_revived_where_that_was_noted(
    opened: Callable[..., Any], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    results = make_results(["relu", "gelu"], seeds=2, epochs=4, sites=["a"])
    relu, gelu = results.activations
    [site] = relu.sites
    silent = [0.1, 0.2, None, 0.3, 0.3]
    noted = replace(site, silent=silent, died=[None, 14.5, None, 13.0, 0.0], revived=[None, 1.5, None, 0.5, 0.0])
    results = replace(results, activations=[replace(relu, sites=[noted]), gelu])
    path = tmp_path / "report.html"
    path.write_text(page(results, draw(results)), encoding="utf-8")
    shown = figure(opened(path), "Silent units by layer")
    cells = shown.locator("table.layers tbody td small")
    seen = []
    for epoch in range(5):
        shown.locator("input[type=range]").fill(str(epoch))
        seen.append(cells.first.text_content())
        assert cells.nth(1).text_content() == ""  # of gelu it was not noted, and a net change would be read as deaths
    # What was not counted at epoch 2 shows the count before it, with its changes.
    assert seen == ["", "+14.5 −1.5", "+14.5 −1.5", "+13 −0.5", "+0 −0"]


def test_figures_are_saved(opened: Callable[..., Any], report: Path, results: Results) -> None:
    tab = opened(report, color_scheme="dark")
    saved = {}
    for title in ("Learning curves", "Silent units by layer"):
        for kind in ("SVG", "PNG", "PDF"):
            with tab.expect_download() as download:
                figure(tab, title).locator("button", has_text=kind).click()
            saved[title, kind] = content(download.value)
            assert download.value.suggested_filename.endswith(f".{kind.lower()}")
    for title in ("Learning curves", "Silent units by layer"):
        root = ElementTree.fromstring(saved[title, "SVG"])
        text = saved[title, "SVG"].decode()
        assert "var(" not in text
        assert "data-" not in text
        assert root[0].text.startswith(title)
        assert "#ffffff" in text
        assert "#1d1f23" in text  # the ink of the light page
        png = saved[title, "PNG"]
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20], "big") > 1000
        document = saved[title, "PDF"]
        assert document.startswith(b"%PDF-1.4")
        for number, place in enumerate(re.findall(rb"^(\d{10}) 00000 n", document, re.MULTILINE), 1):
            assert document[int(place) :].startswith(b"%d 0 obj" % number)
        for stated, stream in re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", document, re.DOTALL):
            assert int(stated) == len(stream)
        for activation in results.activations:
            assert f"({activation.name}) Tj".encode() in document


def test_the_contents_follow(opened: Callable[..., Any], report: Path) -> None:
    tab = opened(report)
    assert tab.locator("nav [aria-current]").count() == 0
    tab.locator("#method").scroll_into_view_if_needed()
    tab.evaluate("document.getElementById('method').scrollIntoView()")
    tab.wait_for_selector("nav [aria-current]:has-text('Method')")


def test_what_the_reader_has_set_is_kept(opened: Callable[..., Any], report: Path) -> None:
    tab = opened(report)
    tab.locator(".verdicts summary").nth(1).click()
    tab.locator(".arms button").nth(2).click()
    tab.locator("table").first.locator("th .sort", has_text="Silent").click()
    order = column(tab.locator("table").first, 1)
    tab.reload()
    assert tab.locator(".verdicts details").nth(1).get_attribute("open") is not None
    assert tab.locator(".arms button").nth(2).get_attribute("aria-pressed") == "false"
    assert column(tab.locator("table").first, 1) == order


def test_a_live_page_follows_and_keeps_what_is_set(
    opened: Callable[..., Any], results: Results, drawn: list[Figure], tmp_path: Path
) -> None:
    def write(words: str, state: str = "running") -> None:
        section = f'<section data-written="{1000 * time.time():.0f}" data-state="{state}">{words}<b class="age"></b></section>'
        path.write_text(page(results, drawn, live="<!-- now -->").replace("<!-- now -->", section), encoding="utf-8")

    path = tmp_path / "report.html"
    write("first")
    tab = opened(path)
    tab.locator(".verdicts summary").nth(1).click()
    tab.locator("table").first.locator("th .sort", has_text="Silent").click()
    order = column(tab.locator("table").first, 1)
    tab.evaluate("document.getElementById('figures').scrollIntoView()")
    at = tab.evaluate("scrollY")
    write("second")
    tab.wait_for_selector("section:has-text('second')")
    tab.wait_for_function(f"Math.abs(scrollY - {at}) < 5")
    assert re.search(r", \d+ s ago", tab.locator(".age").inner_text())
    assert tab.locator(".verdicts details").nth(1).get_attribute("open") is not None
    assert column(tab.locator("table").first, 1) == order
    write("third", "stopped")
    tab.wait_for_selector("section:has-text('third')")
