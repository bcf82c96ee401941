"""The page is well formed, asks for nothing, and shows hostile names as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from undying.lab.results import Results
from undying.report.drawing import Figure
from undying.report.figures import draw
from undying.report.html import page
from undying.report.write import write_report
from undying.statistics.metric import ACCURACY, SILENT
from undying.statistics.records import Curve, Summary

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = [
    "relu",
    "<script>alert(1)</script>",
    "&\"'",
    "$x^2$",
    "_under\x1b[31m\x00",
    "</style></svg><b onload=x>",
    "#010101",
]


RECYCLED = Summary([3.0, 8.0], 5.5, None, None, 5.5)


class Page(HTMLParser):
    """Collects what the tests ask for, and refuses a tag that is closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.scripts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((str(dict(attrs).get("type")), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            kind, before = self.scripts.pop()
            self.scripts.append((kind, before + data))
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def check_scripts(html: str) -> None:
    """One script, ours and the only one that the page's policy lets run, and data, which no browser runs."""
    parsed = Page(html)
    [ours] = [text for kind, text in parsed.scripts if kind == "None"]
    [policy] = [value for value in parsed.values("content") if "default-src" in value]
    digest = base64.b64encode(hashlib.sha256(ours.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert ours == files("undying.report").joinpath("page.js").read_text(encoding="utf-8")
    assert len(ours.encode()) <= 40 * 1024
    assert "</script" not in ours
    for kind, text in parsed.scripts:
        assert kind in ("None", "application/json")
        if kind != "None":
            json.loads(text)
            assert not set("<>&") & set(text)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


@pytest.fixture(scope="module")
def html(results: Results, drawn: list[Figure]) -> str:
    return page(results, drawn)


def drawings(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_the_page_is_well_formed_and_so_is_every_drawing(html: str) -> None:
    assert Page(html).tags["h1"] == 1
    assert len(drawings(html)) == 9


def test_names_from_right_to_left_are_set_apart(make_results: Callable[..., Results]) -> None:
    """``+1.0 [-1.5, +3.5]`` after such a name was shown as ``[3.5+ ,1.5-] 1.0+``."""
    name = "שם ארוך-2"
    results = make_results(["relu", name, "sugar"], seeds=8, epochs=2, sites=[name])
    html = page(results, draw(results))
    parsed = Page(re.sub(r"<text.*?</text>", "", html, flags=re.DOTALL))  # each of which is by itself
    apart = f"\u2068{name}\u2069"
    command = f"--activations relu {name} sugar"
    copied = parsed.text.count(command) + parsed.text.count(f"{name}()")  # the command, and the code of the activation
    assert copied == 2
    assert parsed.text.count(name) == parsed.text.count(apart) + copied
    assert parsed.text.count(apart) > 5
    for _, data in parsed.scripts[:-1]:
        assert name not in [site for arm in json.loads(data)["arms"] for site in arm["sites"]]
    for drawing in drawings(html):
        described = drawing.find("{*}desc").text
        assert described.count(name) == described.count(apart)


def test_headings_do_not_skip_a_level(html: str) -> None:
    levels = [int(level) for level in re.findall(r"<h(\d)", html)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    parsed = Page(html)
    for name in ("src", "href", "xlink:href", "action", "data"):
        for value in parsed.values(name):
            assert value.startswith(("#", "data:")) or value in ("results.csv", "summary.csv", "results.json"), value
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert parsed.tags["iframe"] == 0
    check_scripts(html)
    assert set(re.findall(r"https?://[^\"]*", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_are_unique_and_every_reference_is_met(html: str) -> None:
    parsed = Page(html)
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    used = {
        word
        for name in ("aria-labelledby", "aria-describedby")
        for value in parsed.values(name)
        for word in value.split()
    }
    used |= {value[1:] for name in ("href", "xlink:href") for value in parsed.values(name) if value.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert used <= set(ids)


def test_every_drawing_has_a_role_a_title_and_the_numbers(html: str, results: Results) -> None:
    for svg in drawings(html):
        assert svg.get("role") == "img"
        title, description = svg[0], svg[1]
        assert title.tag.endswith("title")
        assert title.text
        assert description.tag.endswith("desc")
        assert all(activation.name in (description.text or "") for activation in results.activations)


def test_no_stand_in_colour_is_left(html: str) -> None:
    assert "#0101" not in html
    assert "var(--ink)" in html


def test_the_answer_comes_first(html: str, results: Results) -> None:
    text = " ".join(Page(html).text.split())
    comparisons = results.activations[3].comparisons
    sentences = [comparisons[metric].sentence.partition(": ")[2][1:] for metric in ("accuracy", "silent")]
    places = [
        text.index(words)
        for words in (
            "Does replacing ReLU help",
            "Of 5 activations",
            "10 seeds, in pairs",
            "Test accuracy, difference from ReLU after the last epoch",
            *sentences,
            "p (Holm)",
            "Sparsity Median",
            "Make it again undying compare --data",
        )
    ]
    assert places == sorted(places)


def test_what_is_said_of_several_is_said_once(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "a", "b", "c"], seeds=6, epochs=1)
    relu, a, b, c = results.activations
    alike = [
        {
            name: replace(found, sentence=f"{arm.name}: one finding of {name}.")
            for name, found in arm.comparisons.items()
        }
        for arm in (a, b)
    ]
    results = replace(
        results, activations=[relu, *(replace(arm, comparisons=of) for arm, of in zip((a, b), alike, strict=True)), c]
    )
    html = page(results, draw(results))
    assert Page(html).text.count("One finding of accuracy.") == 1
    # A fold an arm, and one for the two of whom the same is said.
    folds = re.findall(r"<li><details>\n<summary>(.*?)<span", html, re.DOTALL)
    assert [re.findall(r"<b>(\w+)</b>", fold) for fold in folds] == [["a", "b"], ["c"]]


def test_numbers_have_one_minus_and_as_many_digits_everywhere(results: Results, html: str) -> None:
    parsed = Page(html)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    assert cells
    assert not [cell for cell in cells if re.search(r"(?<![\w-])-\d", re.sub("<[^>]*>", "", cell))]
    for activation in results.activations[1:]:
        for metric, found in ((ACCURACY, activation.comparison), (SILENT, activation.comparisons["silent"])):
            number = metric.differences(found.difference)[0].replace("-", "−")
            signed = number if number.startswith("−") else f"+{number}"
            assert f">{signed} <small>[" in html
    assert "−" in parsed.text
    sentence = replace(results.activations[1].comparison, sentence="leaky_relu: from -0.6 to 1e-5 in a-1")
    other = replace(results.activations[1], comparisons={"accuracy": sentence})
    said = page(replace(results, activations=[results.baseline, other]), [])
    assert "From −0.6 to 1e-5 in a-1." in said


def test_what_a_sceptic_asks_for_is_said(html: str, results: Results) -> None:
    text = " ".join(Page(html).text.split())
    for words in (
        "0 % dead is automatic for an activation with a non-zero slope below 0",
        "N = 1,437",
        "0.21 %, with 95 % confidence",
        "Holm’s correction",
        "1 of 10 runs of sugar:nelu",
        "accuracy of guessing",
        results.command,
        str(results.data["sha256"]),
        "BARELU()",
    ):
        assert words in text, words


def test_a_baseline_other_than_relu_reads_right(make_results: Callable[..., Results]) -> None:
    text = Page(page(results := make_results(["gelu", "relu"], seeds=2, epochs=1), draw(results))).text
    assert "Does replacing gelu help this network?" in text
    assert "In place of gelu, relu" in text


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_runs_and_a_lone_baseline(make_results: Callable[..., Results], seeds: int) -> None:
    for names in (["relu"], ["relu", "silu"]):
        results = make_results(names, seeds=seeds, epochs=1)
        text = " ".join(Page(page(results, draw(results))).text.split())
        assert ("nothing to compare" in text) == (names == ["relu"])
        assert ("too few seeds" in text) == (names != ["relu"])


def test_hostile_names_are_text_everywhere(make_results: Callable[..., Results], tmp_path: Path) -> None:
    results = make_results(HOSTILE, seeds=3, epochs=2, sites=HOSTILE[1:], data=HOSTILE[1])
    results = replace(results, environment={HOSTILE[1]: HOSTILE[5]}, command=HOSTILE[5])
    html = write_report(results, tmp_path).read_text(encoding="utf-8")
    parsed = Page(html)
    check_scripts(html)
    assert parsed.tags["b"] - Page(html.replace("<b onload", "")).tags["b"] == 0
    assert not re.search("[\x00-\x08\x0b-\x1f]", html)
    for name in ("<script>alert(1)</script>", "&\"'", "$x^2$", "#010101"):
        assert parsed.text.count(name) > 3, name
    for svg in [*drawings(html), *(ElementTree.parse(path).getroot() for path in (tmp_path / "figures").iterdir())]:
        assert not [element for element in svg.iter() if element.tag.endswith("}script")]
        said = "".join(svg.itertext())
        assert "<script>" in said
        assert "$x^2$" in said
        assert "#010101" in said


def test_a_name_that_jinja_would_run_is_text(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "{{ 6 * 7 }}"], seeds=2, epochs=1)
    assert "{{ 6 * 7 }}" in Page(page(results, draw(results))).text


def test_twenty_activations_stay_below_three_megabytes(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", *(f"sugar:a{index}" for index in range(19))], seeds=30, epochs=30)
    html = page(results, draw(results))
    Page(html)
    assert len(html.encode()) < 3_000_000


def test_what_is_unknown_is_said_so_and_is_not_zero(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "gelu"], seeds=2, epochs=1, sites=["act"])
    gelu = results.activations[1]
    unknown = replace(gelu.sites[0], silent=[None, None])
    gelu = replace(gelu, silent=None, dead=None, comparisons={}, sites=[unknown])
    html = page(results := replace(results, activations=[results.baseline, gelu]), draw(results))
    text = " ".join(Page(html).text.split())
    assert text.count("unknown") >= 5  # silent and dead, the table of silent units, its figure, the layer
    assert "No seed is finished that the baseline has too." in text


def test_recycled_units_stand_beside_the_silent_and_dead_where_a_treatment_makes_any(
    make_results: Callable[..., Results], tmp_path: Path
) -> None:
    results = make_results(names=("relu", "relu+redo"), seeds=2, epochs=2)
    relu, redo = results.activations
    curve = Curve([0.0, 3.0, 5.5], [0.0, 2.0, 3.0], [0.0, 4.0, 8.0])
    redo = replace(redo, refused={"<b>act": "<i>why"}, recycled=RECYCLED, curves={**redo.curves, "recycled": curve})
    treated = replace(results, activations=[relu, redo])
    figures = draw(treated)
    without, shown = Page(page(results, draw(results))), Page(page(treated, figures))
    assert "Recycled" not in without.text
    assert "Recycled" in shown.text
    assert "5.5" in shown.text
    assert "relu+redo does not recycle all units of 1 layer:\n<b>act (<i>why)." in shown.text
    [figure] = [figure for figure in figures if figure.name == "recycled"]
    assert "relu+redo 0 to 5.5" in figure.alt
    assert re.search(
        'aria-labelledby="recycled-caption" data-arms="1">', page(treated, [figure])
    )  # its first line is the page's second
    write_report(treated, tmp_path)
    rows = [line.split(",") for line in (tmp_path / "results.csv").read_text().splitlines()]
    column = rows[0].index("recycled")
    assert [row[column] for row in rows[1:]] == ["", "", "3.0", "8.0"]
