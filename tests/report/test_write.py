"""The files of a report."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from undying.lab.results import Results
from undying.report.drawing import Figure
from undying.report.figures import printed
from undying.report.write import write_report


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_files(results: Results, tmp_path: Path) -> None:
    out = tmp_path / "new" / "place"
    assert write_report(results, out) == out / "report.html"
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"report.html", "results.csv", "summary.csv", "results.json"} < names
    figures = [name for name in names if name.startswith("figures/")]
    assert len(figures) == 9
    assert len(names) == 13  # nothing is left beside them
    for name in figures:
        ElementTree.parse(out / name)


@pytest.fixture
def no_drawing(drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every report has the figures of ``results``."""
    monkeypatch.setattr("undying.report.write.draw", lambda _: drawn)


@pytest.mark.usefixtures("no_drawing")
def test_json_is_the_same_twice_and_has_no_seconds(results: Results, tmp_path: Path) -> None:
    first = write_report(results, tmp_path / "a").with_name("results.json").read_bytes()
    second = write_report(results, tmp_path / "b").with_name("results.json").read_bytes()
    assert first == second
    assert b"seconds" not in first
    assert json.loads(first) == json.loads(json.dumps(results.to_dict()))


def test_json_has_no_nan(results: Results, tmp_path: Path) -> None:
    first = replace(results.baseline, silent=replace(results.baseline.silent, mean=math.nan, values=[math.inf] * 10))
    results = replace(
        results, activations=[first, *results.activations[1:]], settings={**results.settings, "data": Path("d")}
    )
    text = write_report(results, tmp_path).with_name("results.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    silent = json.loads(text)["activations"][0]["silent"]
    assert silent["mean"] is None
    assert silent["values"] == [None] * 10
    assert rows(tmp_path / "results.csv")[0]["silent"] == ""


@pytest.mark.usefixtures("no_drawing")
def test_csv_has_a_row_a_run(results: Results, tmp_path: Path) -> None:
    write_report(results, tmp_path)
    table = rows(tmp_path / "results.csv")
    assert list(table[0])[:4] == ["activation", "seed", "accuracy", "test_loss"]
    assert len(table) == 60
    for activation in results.activations:
        own = [row for row in table if row["activation"] == activation.name]
        assert [int(row["seed"]) for row in own] == list(range(10))
        assert [float(row["accuracy"]) for row in own] == activation.score.values
        assert [float(row["seconds"]) for row in own] == activation.seconds.values
        assert {row["test_loss"] == "" for row in own} == {activation.test_loss is None}


@pytest.mark.usefixtures("no_drawing")
def test_csv_has_a_row_an_arm(results: Results, tmp_path: Path) -> None:
    write_report(results, tmp_path)
    table = rows(tmp_path / "summary.csv")
    assert [row["activation"] for row in table] == [activation.name for activation in results.activations]
    for row, activation in zip(table, results.activations, strict=True):
        for metric, summary in (("accuracy", activation.score), ("silent", activation.silent)):
            found = [float(row[f"{metric}_{name}"]) for name in ("n", "mean", "low", "high", "iqm")]
            assert found == [10, summary.mean, summary.low, summary.high, summary.iqm]
            against = activation.comparisons.get(metric)
            numbers = ("p", "p_holm", "difference", "effect_size")
            assert [row[f"{metric}_{name}"] for name in numbers] == [
                str(getattr(against, name)) if against else "" for name in numbers
            ]
            assert row[f"{metric}_verdict"] == (against.verdict if against else "")
            assert row[f"{metric}_p_equal"] == ""


@pytest.mark.usefixtures("no_drawing")
def test_what_was_held_out_is_in_the_csv(results: Results, tmp_path: Path) -> None:
    losses = [0.5, None, *[0.25] * 8]
    first = replace(results.baseline, validation={"validation_loss": losses})
    write_report(replace(results, activations=[first, *results.activations[1:]]), tmp_path)
    table = rows(tmp_path / "results.csv")
    assert [row["validation_loss"] for row in table[:10]] == ["" if loss is None else str(loss) for loss in losses]
    assert {row["validation_loss"] for row in table[10:]} == {""}


def test_figures_for_print(make_results: Callable[..., Results], tmp_path: Path) -> None:
    small = make_results(["relu", "gelu"], seeds=2, epochs=1, sites=("a",))
    write_report(small, tmp_path, ("pdf", "png"))
    contents = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert contents == printed(small, ("pdf", "png"))  # drawn again they are the same
    assert not [name for name in contents if name.endswith(".svg")]
    pdfs = [content for name, content in contents.items() if name.endswith(".pdf")]
    pngs = [content for name, content in contents.items() if name.endswith(".png")]
    assert len(pdfs) == len(pngs) == 9
    # One width, 4.17 inches, at 72 points and at 300 pixels an inch.
    assert {re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf)[1] for pdf in pdfs} == {b"300.24"}
    assert {int.from_bytes(png[16:20], "big") for png in pngs} == {1251}
    assert "--ink" in (tmp_path / "report.html").read_text()  # the page's own are as ever


def test_a_formula_in_the_csv_is_defused(make_results: Callable[..., Results], tmp_path: Path) -> None:
    names = ["=1+1", "+a", "-b", "@c", "\td", "=cmd|' /C calc'!A0"]
    write_report(make_results(["relu", *names], seeds=1, epochs=1), tmp_path)
    shown = [row["activation"] for row in rows(tmp_path / "results.csv")]
    assert shown == ["relu", *(f"'{name}" for name in names)]


@pytest.mark.usefixtures("no_drawing")
def test_a_failing_write_leaves_the_old_report(
    results: Results, make_results: Callable[..., Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(results, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(make_results(["relu", "gelu"]), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("no_drawing")
def test_a_place_that_cannot_be_written_is_an_oserror(results: Results, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        write_report(results, tmp_path / "file")


def test_a_name_that_utf_8_cannot_hold(make_results: Callable[..., Results], tmp_path: Path) -> None:
    write_report(make_results(["relu", "bad\udcff"], seeds=1, epochs=1), tmp_path)
    assert "bad\ufffd" in (tmp_path / "report.html").read_text(encoding="utf-8")
