"""The commands as a user types them: one line for a mistake, exit 2, nothing lost."""

import csv
import dataclasses
import json
import shlex
import shutil
import sys
from collections import Counter

import pytest

from stores import count_reads, finish, prepared
from undying import cli
from undying._base.lock import Lock
from undying.lab import Execution, Settings, comparison
from undying.lab.plan import plan
from undying.report.figures import draw

SMALL = ["compare", "--activations", "relu", "sugar", "--seeds", "2", "--epochs", "1"]


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """Figures of the same results are not drawn again: that takes longer than to train them."""
    drawn = {}

    def once(results):
        return drawn.get(key := repr(dataclasses.replace(results, command=""))) or drawn.setdefault(key, draw(results))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("undying.report.write.draw", once)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory, drawn_once):
    folder = tmp_path_factory.mktemp("compare")
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    return folder


def test_compare_leaves_a_report_and_says_where(out, capsys):
    capsys.readouterr()
    assert cli.main(["report", str(out)]) == 0
    shown = capsys.readouterr().out
    assert str(out / "report.html") in shown.replace("\n", "")
    assert "relu" in shown
    assert "sugar" in shown
    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert len(json.loads((out / "results.json").read_text())["activations"]) == 2
    assert list((out / "figures").glob("*.svg"))


def test_a_comparison_that_another_one_in_its_folder_overtook_leaves_that_ones_report(
    out, tmp_path, capsys, monkeypatch
):
    """Two sweeps in one folder: each wrote its page over the other's, and neither said so."""
    folder = shutil.copytree(out, tmp_path / "both")
    report = folder / "report.html"
    before = report.read_bytes()
    command = ["compare", "--activations", "relu", "sugar", "--seeds", "1", "--epochs", "1", "--out", str(folder)]
    carry_out = comparison.carry_out

    def overtaken(todo, *rest):
        results = carry_out(todo, *rest)
        todo.store.prepare(dataclasses.replace(todo.settings, seeds=2), todo.data)
        return results

    monkeypatch.setattr(comparison, "carry_out", overtaken)
    capsys.readouterr()
    assert cli.main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "another comparison has begun in" in said
    assert "run the same command again" in said
    assert report.read_bytes() == before
    monkeypatch.undo()
    assert cli.main(command) == 0
    assert report.read_bytes() != before
    # And one that begins while another's runs are trained says so first.
    other = prepared(folder, Settings(activations=("relu", "gelu"), seeds=1, epochs=1))[1][1]
    (folder / "runs" / other.id).mkdir(exist_ok=True)
    with Lock(folder / "runs" / other.id):
        assert cli.main(command) == 0
    assert "1 run of another comparison is being trained in" in " ".join(capsys.readouterr().out.split())


def test_a_table_and_figures_for_a_paper(out, tmp_path, capsys):
    copied = shutil.copytree(out, tmp_path / "copy")
    table = tmp_path / "table.tex"
    assert cli.main(["report", str(copied), "--latex", str(table), "--figures", "pdf", "svg"]) == 0
    assert r"sugar &" in table.read_text()
    assert {path.suffix for path in (copied / "figures").iterdir()} == {".pdf", ".svg"}
    with (copied / "summary.csv").open() as file:
        assert [row["activation"] for row in csv.DictReader(file)] == ["relu", "sugar"]
    assert "mlp was trained on digits with 2 activations" in (copied / "report.html").read_text()
    capsys.readouterr()
    for words, said in (
        (["--figures", "eps"], "'eps'"),
        (["--latex", "/dev/null/x.tex"], "/dev/null/x.tex"),
        (["--latex", "x.tex", "--page", "x.html"], "--page"),
    ):
        assert cli.main(["report", str(copied), *words]) == 2
        assert said in capsys.readouterr().err


def test_the_report_is_made_again_without_training(out, capsys):
    runs = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*")}
    before = (out / "results.json").read_bytes()
    (out / "report.html").unlink()
    (out / "results.json").unlink()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "report.html").exists()
    assert (out / "results.json").read_bytes() == before
    assert runs == {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*")}


def test_the_command_in_the_results_makes_them_again(out, capsys):
    words = shlex.split(json.loads((out / "results.json").read_text())["command"])
    assert words[0] == "undying"
    assert cli.main([*words[1:], "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "4 finished" in shown.replace("\n", " ")


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    assert cli.main([*SMALL, "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 activations x 2 seeds = 4 runs of 1 epoch, 0 finished" in shown
    assert "estimated time" in shown
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--activations", "relu", "sugr"], ["sugr", "sugar"]),
        (["compare", "--data", "cifar"], ["--data", "cifar", "digits", ".npz"]),
        (["compare", "--data", "no/such/folder"], ["no/such/folder"]),
        (["compare", "--data", "nowhere:data"], ["nowhere"]),
        (["compare", "--model", "nowhere:net"], ["nowhere"]),
        (["compare", "--device", "gpu"], ["--device", "'gpu'"]),
        (["compare", "--executor", "slurm"], ["--executor", "'slurm'", "submitit"]),
        (["compare", "--model", "vgg"], ["--model", "vgg", "mlp"]),
        (["compare", "--optimizer", "rprop"], ["--optimizer", "rprop", "adam"]),
        (["compare", "--lr", "-1"], ["--lr", "-1"]),
        (["compare", "--seeds", "0"], ["--seeds", "0"]),
        (["compare", "--workers", "0"], ["--workers", "0"]),
        (["compare", "--activations"], ["--activations"]),
        (["compare", "--out", "/dev/null/x"], ["/dev/null/x", "--out"]),
        (["report", "no/such/folder"], ["no/such/folder", "undying compare"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments, words, capsys):
    assert cli.main(arguments) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in words), errors


@pytest.mark.parametrize("arguments", [["compare", "--lrr", "1"], ["compare", "--lr", "x"], ["bench"]])
def test_what_cannot_be_parsed_is_exit_2_too(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_every_argument_has_a_line_of_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    fields = [f.name for kind in (Settings, Execution) for f in dataclasses.fields(kind)]
    names = [name.replace("_", "-") for name in (*fields, "out", "dry_run")]
    # A flag that is on by default is shown as the flag that turns it off.
    assert not [name for name in names if f"--{name} " not in shown and f"--no-{name} " not in shown]


def test_a_newer_store_and_a_truncated_run_are_refused_and_left(out, tmp_path, capsys):
    copied = shutil.copytree(out, tmp_path / "copy")
    victim = next(copied.glob("runs/*/metrics.jsonl"))
    whole = victim.read_text()
    victim.write_text(whole[:-10])
    capsys.readouterr()
    for command in (["report", str(copied)], [*SMALL, "--out", str(copied)]):
        assert cli.main(command) == 2
        assert str(victim) in capsys.readouterr().err.replace("\n", "")
    assert victim.read_text() == whole[:-10]
    victim.write_text(whole)
    sweep = copied / "sweep.json"
    sweep.write_text(json.dumps({**json.loads(sweep.read_text()), "format": 2}))
    for command in (["report", str(copied)], [*SMALL, "--out", str(copied)]):
        assert cli.main(command) == 2
        assert "newer undying" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_keeps_the_runs(out, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("undying.report.write.write_report", full)
    assert cli.main(["report", str(out)]) == 2
    errors = capsys.readouterr().err
    assert "No space left" in errors
    assert "undying report" in errors


def test_a_report_of_what_is_finished_is_marked_as_partial(tmp_path, capsys):
    settings = Settings(activations=("relu", "sugar", "gelu"), seeds=3, epochs=2)
    store, configs = prepared(tmp_path, settings)
    for config in configs[:2]:
        finish(store, config)
    assert cli.main(["report", str(tmp_path)]) == 0
    said = "Partial: 2 of 9 runs finished, none of gelu."
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "report.html").read_text()
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["partial"], results["finished"], results["planned"], results["unfinished"]) == (
        True,
        2,
        9,
        ["gelu"],
    )
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["activation"], row["seed"]) for row in rows if row["finished"] == "yes"] == [
        ("relu", "0"),
        ("sugar", "0"),
    ]
    assert len(rows) == 9
    assert {row["accuracy"] == "" for row in rows if row["finished"] == "no"} == {True}
    for config in configs[2:]:
        finish(store, config)
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "Partial" not in capsys.readouterr().out + (tmp_path / "report.html").read_text()


def test_a_report_of_a_comparison_without_a_finished_run_says_what_to_do(tmp_path, capsys):
    prepared(tmp_path, Settings(activations=("relu", "sugar"), seeds=1, epochs=1))
    assert cli.main(["report", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert "no run of the baseline relu" in errors
    assert f"undying runs {tmp_path}" in errors


NETWORK = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Faulty(), nn.ReLU(), nn.Linear(8, 10))

class Faulty(nn.Module):
    def forward(self, x):
        if self.training and len(x) > 2 and torch.initial_seed() == 1:  # two are the probe of its shapes
            raise ValueError("a fault")
        return x
"""


def test_with_failed_runs_the_finished_ones_are_reported_and_it_is_exit_2(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken.py").write_text(NETWORK)
    try:
        assert cli.main([*SMALL, "--model", "broken:net", "--out", "out", "--workers", "1"]) == 2
    finally:
        sys.modules.pop("broken", None)
    captured = capsys.readouterr()
    assert "Partial: 2 of 4 runs finished." in " ".join(captured.out.split())
    assert "report: out/report.html" in captured.out
    assert "2 of 4 runs did not finish in two tries" in captured.err
    assert json.loads((tmp_path / "out" / "results.json").read_text())["partial"] is True
    assert cli.main(["runs", "out", "--status", "failed"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("ValueError: a fault") == 2
    assert "2 finished, 2 failed" in shown


def test_a_page_of_several_comparisons(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(activations=("relu", "sugar"), seeds=2, epochs=1)
    for name, seeds in (("digits", 2), ("letters", 1)):
        store, configs = prepared(tmp_path / name, settings, name)
        for config in configs[: 2 * seeds]:
            finish(store, config)
    assert cli.main(["report", "digits", "letters", "--page", "new/all.html"]) == 0
    shown = capsys.readouterr().out
    assert "Partial: 2 of 4 runs finished." in shown
    assert "report: new/all.html" in shown
    page = (tmp_path / "new" / "all.html").read_text()
    assert page.count('class="overview"') == 1
    assert 'href="#c2">letters</a>' in page
    assert not (tmp_path / "digits" / "report.html").exists()
    assert cli.main(["report", "digits", "letters", "--page", "/dev/null/x.html"]) == 2
    assert "/dev/null/x.html" in capsys.readouterr().err


def test_finished_runs_are_handed_to_tensorboard_by_the_same_command(out, tmp_path):
    """The runs are those of the fixture: nothing is trained again."""
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")}
    assert cli.main([*SMALL, "--out", str(out), "--tensorboard", str(tmp_path / "board")]) == 0
    assert len(list(tmp_path.glob("board/digits-mlp-*/*-seed*/events.*"))) == 4
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.json")} == before


def test_with_everything_finished_each_run_is_read_once(tmp_path, monkeypatch):
    settings = Settings(activations=("relu", "sugar"), seeds=2, epochs=1)
    todo = plan(settings, tmp_path)
    todo.store.prepare(settings, todo.data)
    for config in todo.runs:
        finish(todo.store, config)
    reads, compare = count_reads(monkeypatch), [*SMALL, "--out", str(tmp_path)]
    for command in (
        compare,
        [*compare, "--dry-run"],
        [*compare, "--tensorboard", str(tmp_path / "board")],
        ["report", str(tmp_path)],
    ):
        reads.clear()
        assert cli.main(command) == 0
        assert reads == Counter(config.id for config in todo.runs), command
