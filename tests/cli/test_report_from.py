"""``undying report --from``: the same page, summary and files, of runs that others trained."""

import csv
import json
import re
import shlex

import pytest

from undying import cli


def write(path, steps=(None,)):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["arm", "seed", "metric", "value", *(["step"] if steps != (None,) else [])])
        for arm, gain in (("relu", 0), ("mine", 7), ("<b>&other", 1)):
            for seed in range(8):
                for step in steps:
                    more = [step] if step is not None else []
                    value = (step or 10) * (10 + gain) + seed + 0.3 * (seed % 3) * gain
                    table.writerow([arm, seed, "return", value, *more])
                    table.writerow([arm, seed, "loss", 100 / value, *more])
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    file = write(folder / "scores.csv", steps=(10, 20, 40))
    words = ["report", str(folder / "made"), "--from", str(file), "--lower-is-better", "loss", "--margin", "50"]
    assert cli.main(words) == 0
    return folder / "made"


def test_everything_of_a_report_is_there(out):
    results = json.loads((out / "results.json").read_text())
    assert [metric["name"] for metric in results["metrics"]] == ["return", "loss"]
    assert [arm["comparisons"]["return"]["verdict"] for arm in results["activations"][1:]] == ["higher", "equal"]
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["activation", "seed", "return", "loss", "finished"]
    assert len(rows) == 24
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "curve-loss.svg",
        "curve-return.svg",
        "differences.svg",
        "loss.svg",
        "return.svg",
    ]


def test_the_page_says_nothing_of_units_or_training(out):
    page = (out / "report.html").read_text()
    text = re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    for word in ("silent", "dormant", "Dead", "Diverged", "epoch", "layer", "Time", "activation", "None", "unknown"):
        assert word not in text, word
    assert "<b>&other" not in page
    assert "Of 2 arms compared with ReLU, 1 reached a better return (higher)" in " ".join(text.split())


def test_the_command_on_the_page_makes_the_same_results(out):
    before = (out / "results.json").read_bytes()
    words = shlex.split(json.loads(before)["command"])
    assert words[:2] == ["undying", "report"]
    assert cli.main(words[1:]) == 0
    assert (out / "results.json").read_bytes() == before


def test_the_terminal_says_what_was_read_and_found(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "scores.csv")
    with file.open("a") as more:
        more.write("relu,8,return,100\nrelu,8,loss,1\n")
    assert cli.main(["report", "--from", "scores.csv", "--baseline", "mine"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "metrics: return (higher is better), loss (higher is better)" in shown
    assert "left out of the comparison of relu with mine: seed 8 of relu." in shown
    assert "silent" not in shown
    assert "report: scores-report/report.html" in shown
    assert (tmp_path / "scores-report" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b", "--from", "scores.csv"], ["--from", "one folder"]),
        (["--from", "scores.csv", "--page", "x.html"], ["--from", "--page"]),
        (["--metric", "acc"], ["--metric", "--from"]),
        (["compared", "--from", "scores.csv"], ["compared", "comparison", "name another"]),
        (["--from", "none.csv"], ["none.csv", "not there"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scores.csv")
    (tmp_path / "compared").mkdir()
    (tmp_path / "compared" / "sweep.json").write_text("{}")
    assert cli.main(["report", *words]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in said), errors
    assert {path.name for path in tmp_path.rglob("*")} == {"scores.csv", "compared", "sweep.json"}
