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
    shown = {activation.name: activation.score.mean for activation in results.activations}
    table.locator("th .sort", has_text="Test accuracy").click()
    assert column(table, 1) == sorted(names, key=lambda name: -shown[name])
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
        assert float(row["Silent (%)"]) == pytest.approx(100 * activation.silent.mean, rel=1e-14)
    with tab.expect_download() as saved:
        tab.locator(".tools button", has_text="LaTeX").first.click()
    tex = content(saved.value).decode()
    assert tex.count(r"\\") == 3
    assert r"92" in tex or r"97" in tex
    assert not re.search(r"(?<!\\)%(?! Needs)", tex)


def test_equal_p_by_holm_are_in_the_order_of_their_raw_p(
    opened: Callable[..., Any], results: Results, tmp_path: Path
) -> None:
    """Most of them are 1.000, and stayed as they were whichever way the table was sorted."""
    raw = dict(
        zip((activation.name for activation in results.activations[1:]), (0.3, 0.9, 0.21, 0.6, 0.45), strict=True)
    )
    arms = [
        replace(each, comparisons={"accuracy": replace(each.comparison, p_holm=1.0, p=raw[each.name])})
        for each in results.activations[1:]
    ]
    path = tmp_path / "page.html"
    path.write_text(page(replace(results, activations=[results.baseline, *arms]), []), encoding="utf-8")
    table = opened(path).locator("table").first
    for way in (-1, 1):
        table.locator("th .sort", has_text="p (Holm)").click()
        assert column(table, 1) == [*sorted(raw, key=lambda name: way * raw[name]), "relu"]


def test_numbers_beside_a_name_from_right_to_left_are_in_their_order(
    opened: Callable[..., Any], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    name = "עברית"
    path = tmp_path / "page.html"
    path.write_text(page(make_results(["relu", name], seeds=8, sites=[name]), []), encoding="utf-8")
    tab = opened(path)
    places = tab.locator(".verdicts summary .delta").first.evaluate(
        """element => [...element.textContent].map((sign, i) => {
            const range = document.createRange();
            range.setStart(element.firstChild, i);
            range.setEnd(element.firstChild, i + 1);
            return sign.trim() ? range.getBoundingClientRect().left : null }).filter(left => left !== null)"""
    )
    assert len(places) > 10
    assert places == sorted(places)
    chip, bold = (tab.locator(f".verdicts summary {what}").first.bounding_box() for what in (".chip", "b"))
    assert bold["x"] + bold["width"] <= chip["x"]
    with tab.expect_download() as saved:
        tab.locator(".tools button", has_text="CSV").first.click()
    assert [row[0] for row in csv.reader(io.StringIO(content(saved.value).decode()))] == ["Activation", "relu", name]


def test_a_long_name_makes_no_page_wider(
    opened: Callable[..., Any], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    """In the caption of a heat map that left the arm out it made a page of 320 pixels 854 wide."""
    long = "a_class_of_97_letters_" * 8
    results = make_results(["relu", long, "barelu"], seeds=7, epochs=3, sites=[long])
    path = tmp_path / "page.html"
    path.write_text(page(results, draw(results)), encoding="utf-8")
    assert f"at any epoch: {long}" in path.read_text(encoding="utf-8")
    for width in (1280, 390, 320):
        tab = opened(path, width=width)
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        chip = tab.locator(".arms button").nth(1).bounding_box()
        assert chip["x"] >= 0
        assert chip["x"] + chip["width"] <= width
        assert tab.locator(".arms button").nth(1).evaluate("e => e.scrollWidth <= e.clientWidth + 1")


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
        change = round(128 * (site.silent[3] - site.silent[2]), 1)
        assert cell.split("\n")[-1].replace("−", "-").replace("±0", "+0.0") == f"{change:+.1f} units"
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
    for place in range(5):
        shown.locator("input[type=range]").fill(str(place))
        seen.append((shown.locator("output").inner_text(), cells.first.text_content()))
        # Of gelu it was not noted, and a net change would be read as deaths.
        assert shown.locator("table.layers tbody td").nth(1).locator("small").first.text_content() == ""
    assert seen == [
        ("0 of 4", ""),
        ("1 of 4", "+14.5 −1.5 units"),
        ("2 of 4", "+14.5 −1.5 units"),  # gelu was counted there; relu's count is that of epoch 1, and says so
        ("3 of 4", "+13 −0.5 units"),
        ("4 of 4", "+0 −0 units"),
    ]
    shown.locator("input[type=range]").fill("2")
    assert shown.locator("table.layers tbody td").first.locator("small").nth(1).text_content() == "at epoch 1"


def test_the_slider_and_the_tip_name_the_epoch_that_was_counted(
    opened: Callable[..., Any], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    results = make_results(["relu", "gelu"], seeds=2, epochs=8, sites=["a"])
    counted = {0: 0.0, 1: 0.125, 2: 0.25, 4: 0.3, 8: 0.4}
    silent = [counted.get(epoch) for epoch in range(9)]
    arms = [
        replace(activation, sites=[replace(activation.sites[0], silent=silent, dead=silent)])
        for activation in results.activations
    ]
    path = tmp_path / "report.html"
    results = replace(results, activations=arms)
    path.write_text(page(results, draw(results)), encoding="utf-8")
    tab = opened(path)
    shown = figure(tab, "Silent units by layer")
    assert "Counted at epochs 0, 1, 2, 4 and 8" in shown.locator("figcaption").inner_text()
    slider = shown.locator("input[type=range]")
    seen = []
    for place in range(int(slider.get_attribute("max")) + 1):
        slider.fill(str(place))
        cell = shown.locator("table.layers tbody td").first.inner_text().split("\n")
        note = shown.locator(".note").inner_text()
        seen.append((shown.locator("output").inner_text(), cell[0], re.findall(r"[Ee]poch (\d+)", note)))
    assert seen == [
        ("0 of 8", "0.0 %", ["0"]),
        ("1 of 8", "12.5 %", ["1", "0"]),
        ("2 of 8", "25.0 %", ["2", "1"]),
        ("4 of 8", "30.0 %", ["4", "2"]),
        ("8 of 8", "40.0 %", ["8", "4"]),
    ]
    image = shown.locator("image").first
    image.scroll_into_view_if_needed()
    place = image.bounding_box()
    tab.mouse.move(place["x"] + place["width"] * 6.5 / 9, place["y"] + 2)
    assert "a, epoch 4: 30.0 %; epoch 6 was not counted" in tab.locator("#tip").inner_text()
    # On paper the slider is not there, and the table still says when it is of.
    slider.fill("3")
    tab.emulate_media(media="print")
    assert not slider.is_visible()
    assert "Epoch 4" in shown.locator(".note").inner_text()


def test_tables_below_figures_are_seen_whole_where_they_are_short(opened: Callable[..., Any], report: Path) -> None:
    tab = opened(report)
    frame = figure(tab, "Silent units by layer").locator(".scroll")  # six layers, as the network of the first steps has
    assert frame.evaluate("e => e.scrollHeight - e.clientHeight") <= 0


def test_the_main_table_of_three_activations_needs_no_scrolling(
    opened: Callable[..., Any], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(make_results(["relu", "sugar", "barelu"], seeds=8), []), encoding="utf-8")
    frame = opened(path).locator("#numbers ~ .scroll").first
    assert frame.evaluate("e => e.scrollWidth - e.clientWidth") <= 0


def test_a_figure_is_saved_as_it_is_shown(opened: Callable[..., Any], report: Path) -> None:
    """An arm that is switched off is grey in the legend on the page, and so it is in the file."""
    tab = opened(report)
    shown = figure(tab, "Learning curves")
    tab.locator(".arms button", has_text="silu").last.click()
    saved = {}
    for kind in ("SVG", "PDF"):
        with tab.expect_download() as download:
            shown.locator("button", has_text=kind).click()
        saved[kind] = content(download.value)
    root = ElementTree.fromstring(saved["SVG"])
    faint = [
        part for part in root.iter() if "opacity: 0.3" in part.get("style", "").replace("opacity:0.3", "opacity: 0.3")
    ]
    on_page = shown.locator('[data-arm="5"].off[data-label]').count()
    assert len(faint) == on_page > 0
    assert any("silu" in "".join(part.itertext()) for part in faint)
    assert b"/ca 0.3" in saved["PDF"]


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


def test_a_partial_report_says_how_old_it_is_and_follows(
    opened: Callable[..., Any], results: Results, drawn: list[Figure], tmp_path: Path
) -> None:
    """A tab that stays open on it said nothing when the runs were resumed."""
    path = tmp_path / "report.html"
    path.write_text(page(replace(results, planned=results.planned + 3), drawn), encoding="utf-8")
    tab = opened(path)
    assert re.fullmatch(r" Written \d+ s ago\.", tab.locator(".partial .age").text_content())
    path.write_text(page(replace(results, planned=results.planned + 2), drawn), encoding="utf-8")
    tab.wait_for_selector(f".partial:has-text('of {results.planned + 2} runs')")
    path.write_text(page(results, drawn), encoding="utf-8")
    tab.wait_for_selector(".partial", state="detached")


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
