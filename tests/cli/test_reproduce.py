"""``undying reproduce``: every table from end to end, stopped and gone on with, and one run again."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from undying import cli
from undying._base.errors import UndyingError
from undying.lab.executors import work
from undying.ops import native
from undying.papers.forecast import for_a_gpu
from undying.papers.page.figures import draw
from undying.papers.rows import MACHINE
from undying.papers.tables import TABLES


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """Figures of the same results are not drawn again, which takes longer than to train them."""
    drawn = {}

    def once(analysis, sections=()):
        return drawn.get(key := repr((analysis, sections))) or drawn.setdefault(key, draw(analysis, sections))

    monkeypatch.setattr("undying.papers.page.page.draw", once)


@pytest.fixture(scope="session")
def kept_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def in_this_process(monkeypatch, kept_runs):
    """Runs without processes of their own, which take longer to start than a smoke test's runs to train; with one thread,
    as those have. A run that is part of several tables, or tests, is trained once and copied."""
    trained, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)

    def run(configs, out, execution, finished):
        for config in configs:
            folder, kept = out / "runs" / config.id, kept_runs / config.id
            if kept.exists():
                shutil.copytree(kept, folder, dirs_exist_ok=True)
            else:
                assert work.execute(config, out, execution, False) == work.FINISHED
                shutil.copytree(folder, kept)
            trained.append(config.id)
            finished(config)

    monkeypatch.setattr("undying.lab.executors.run", run)
    yield trained
    torch.set_num_threads(threads)


def runs(out, name):
    return list(csv.DictReader((out / f"{name}.runs.csv").read_text().splitlines()))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_runs_at_smoke_scale(name, tmp_path, in_this_process, capsys):
    assert cli.main(["reproduce", name, "--scale", "smoke", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"page: {tmp_path / name}.md" in said
    text = (tmp_path / f"{name}.md").read_text()
    assert f"# {name}: smoke scale" in text
    assert "**supported**" not in text
    for claim in TABLES[name].claims:
        assert claim.text in text
        assert claim.text in said
    for figure in re.findall(r"\]\((.*svg)\)", text):
        assert (tmp_path / figure).stat().st_size < 60_000
    rows = runs(tmp_path, name)
    assert {row["run"] for row in rows} == set(in_this_process)
    for row in rows:
        last = json.loads((tmp_path / "runs" / row["run"] / "metrics.jsonl").read_text().splitlines()[-1])
        score = last.get("test_accuracy", last.get("test_return"))
        told = row["test_accuracy" if "test_accuracy" in row else "score"]
        # Of other kinds the score is of several lines, or of a place between two: their own tests recompute it.
        assert score is None or float(told) == pytest.approx(score)
        assert row["weights_sha256"] == last["weights_sha256"]
        environment = json.loads((tmp_path / "runs" / row["run"] / "environment.json").read_text())
        assert environment["instructions"] == torch.backends.cpu.get_cpu_capability()
        assert environment["kernels"] == (native.instructions() or "none")
        assert row.items() >= {name: environment[name] for name in MACHINE}.items()
    if "barelu" in name and any(row["arm"] == "barelu" for row in rows):  # without eps it is LeakyReLU, bit for bit
        weights = {(row["arm"], row["lr"], row["seed"]): row["weights_sha256"] for row in rows}
        rate = rows[0]["lr"]
        for seed in ("42", "1337"):
            barelu, leaky, relu = (weights[arm, rate, seed] for arm in ("barelu", "leaky_relu", "relu"))
            assert barelu == leaky != relu
        assert "2 of 2 pairs ended with the same weights" in text
    again = len(in_this_process)
    assert cli.main(["reproduce", name, "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert len(in_this_process) == again  # nothing is trained twice
    assert (tmp_path / f"{name}.md").read_text() == text


def test_stopped_it_says_what_is_there_and_goes_on(tmp_path, monkeypatch, capsys):
    done = []

    def run(configs, out, execution, finished):
        for config in configs:
            if len(done) == 5:
                raise KeyboardInterrupt
            work.execute(config, out, execution, False)
            done.append(config.id)

    monkeypatch.setattr("undying.lab.executors.run", run)
    command = ["reproduce", "sugar-swin", "--scale", "smoke", "--out", str(tmp_path)]
    assert cli.main(command) == 130
    assert "**Unfinished: 5 of 12 runs.**" in (tmp_path / "sugar-swin.md").read_text()
    assert cli.main([*command, "--page-only"]) == 0
    assert len(done) == 5
    done[:] = ["before"] * 4
    assert cli.main(command) == 130  # one more
    assert "**Unfinished: 6 of 12 runs.**" in (tmp_path / "sugar-swin.md").read_text()
    assert "5 finished" in capsys.readouterr().out


def test_one_run_again_in_a_process_of_its_own_ends_the_same(tmp_path, in_this_process, monkeypatch, capsys):
    command = ["reproduce", "sugar-conv2next", "--scale", "smoke", "--seeds", "1"]
    assert cli.main([*command, "--out", str(tmp_path / "all")]) == 0
    text = (tmp_path / "all" / "sugar-conv2next.md").read_text()
    assert "All 6 runs" in text
    row = runs(tmp_path / "all", "sugar-conv2next")[0]
    [shown] = re.findall(r"\n    (undying reproduce .* --run .*)\n", text)
    assert shown == f"undying {' '.join(command)} --run {row['run']} --out again"
    capsys.readouterr()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(shown.split()[1:]) == 0
    said = capsys.readouterr().out
    assert f"weights {row['weights_sha256']}" in said
    assert f"test accuracy {row['test_accuracy']}," in said
    assert [p.name for p in (tmp_path / "again").iterdir()] == ["runs"]
    assert [p.name for p in (tmp_path / "again" / "runs").iterdir()] == [row["run"]]


@pytest.mark.parametrize("name", ["sugar-swin", "barelu-cartpole"])
def test_what_is_on_record_is_not_trained_again(name, tmp_path, in_this_process):
    """And the page of some recorded runs and some trained now is, with its figures, that of runs trained now."""
    command = ["reproduce", name, "--scale", "smoke", "--seeds"]
    assert cli.main([*command, "0", "1", "--out", str(tmp_path / "first")]) == 0
    recorded = str(tmp_path / "first" / f"{name}.runs.csv")
    first = set(in_this_process)
    assert cli.main([*command, "0", "1", "2", "--out", str(tmp_path / "more"), "--recorded", recorded]) == 0
    assert {row["run"] for row in runs(tmp_path / "more", name)} == set(in_this_process)
    assert len(in_this_process) == len(first) * 3 // 2
    trained = {path.name for path in (tmp_path / "more" / "runs").iterdir()}
    assert trained == set(in_this_process) - first
    assert cli.main([*command, "0", "1", "2", "--out", str(tmp_path / "whole")]) == 0
    assert without_times(tmp_path / "whole", name) == without_times(tmp_path / "more", name)
    whole, more = (drawn(tmp_path / out) for out in ("whole", "more"))
    assert whole.keys() == more.keys()
    for figure, numbers in whole.items():
        assert more[figure] == pytest.approx(numbers, abs=0.01)  # points; a curve on record has six digits


def without_times(out, name):
    """Page and index of a table, without what differs from one training to the next."""
    index = [{**row, "seconds": ""} for row in runs(out, name)]
    page = re.sub(r"The runs took .* in all", "", (out / f"{name}.md").read_text())
    return page, index


def drawn(out):
    """Every number in each figure, by its name."""
    return {path.name: [float(n) for n in re.findall(r"\d+\.\d+", path.read_text())] for path in out.glob("*.svg")}


def test_a_run_of_the_folder_goes_before_its_record(tmp_path, in_this_process):
    command = ["reproduce", "sugar-swin", "--scale", "smoke", "--seeds", "1", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    index = tmp_path / "sugar-swin.runs.csv"
    text, recorded = index.read_text(), tmp_path / "recorded.csv"
    row = runs(tmp_path, "sugar-swin")[0]
    recorded.write_text(text.replace(row["weights_sha256"], "0" * 64))
    assert cli.main([*command, "--page-only", "--recorded", str(recorded)]) == 0
    assert index.read_text() == text


def test_list_names_every_table_with_its_scales(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    said = capsys.readouterr().out
    for table in TABLES.values():
        assert f"{table.name}\n    {table.says}" in said
    small = [name for name, table in TABLES.items() if not for_a_gpu(table.scales["full"])]
    assert {"barelu-cartpole", "barelu-cartpole-rollouts", "undying-death", "undying-treat"} <= set(small)
    assert said.count("on one GPU") == len(TABLES) - len(small)
    assert said.count("on one core") == len(small)
    assert said.count("of one core") == len(TABLES)
    assert "assumed and not measured" in said


def test_dry_run_prints_plan_and_estimate_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "new"
    assert cli.main(["reproduce", "sugar-cifar10", "--scale", "smoke", "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "resnet18: small_cnn on digits, 1 epochs, 7 arms, seeds 0 1: 20 runs, 0 finished" in said
    assert "  1. relu, sugar, bsilu at 0.001\n" in said
    assert "estimated time here on the CPU" in said
    assert "GPU" not in said
    assert not out.exists()


def test_full_scale_says_what_a_gpu_would_take(tmp_path, monkeypatch, capsys):
    """With digits in the place of the data, since only the plan is made."""
    table = TABLES["barelu-cifar10"]
    [task] = table.scales["full"].tasks
    full = replace(table.scales["full"], tasks=(replace(task, data="digits"),))
    monkeypatch.setitem(TABLES, table.name, replace(table, scales={**table.scales, "full": full}))
    assert cli.main(["reproduce", table.name, "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "full scale" in said
    assert "estimated time on one GPU" in said
    assert "assumed and not measured" in said
    assert "estimated time here on the CPU" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["name a table", "sugar-cifar10", "--list"]),
        (["sugar-mnist"], ["'sugar-mnist'", "barelu-cifar10", "--list"]),
        (["sugar-swin", "--scale", "tiny"], ["--scale", "'tiny'", "full, small, smoke"]),
        (["sugar-swin", "--scale", "smoke", "--seeds", "0"], ["--seeds 0"]),
        (["sugar-swin", "--scale", "smoke", "--run", "abc"], ["--run abc", "sugar-swin", "smoke"]),
        (["sugar-swin", "--scale", "smoke", "--page-only", "--out", "/dev/null/x"], ["/dev/null/x", "--out"]),
        (["sugar-swin", "--scale", "smoke", "--recorded", "/nowhere.csv"], ["/nowhere.csv", "No such file"]),
        (["sugar-swin", "--scale", "smoke", "--recorded", "r.csv", "--run", "abc"], ["--run", "--recorded", "one of"]),
        (["sugar-profile", "--scale", "smoke", "--recorded", "r.csv"], ["--recorded", "sugar-profile", "--out"]),
        (["barelu-overhead", "--scale", "smoke", "--recorded", "r.csv"], ["--recorded", "it times"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments, words, capsys):
    assert cli.main(["reproduce", *arguments]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in words), errors


def test_a_damaged_run_is_found_before_anything_is_trained(tmp_path, in_this_process, capsys):
    command = ["reproduce", "sugar-swin", "--scale", "smoke", "--seeds", "1", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    damaged = tmp_path / "runs" / in_this_process[0] / "metrics.jsonl"
    damaged.write_text(damaged.read_text()[:-10])
    (tmp_path / "runs" / in_this_process[1] / "result.json").unlink()
    trained = len(in_this_process)
    assert cli.main(command) == 2
    assert str(damaged) in capsys.readouterr().err
    assert len(in_this_process) == trained


def test_a_failure_still_writes_the_page(tmp_path, monkeypatch):
    def run(configs, out, execution, finished):
        raise UndyingError("the disk is full")

    monkeypatch.setattr("undying.lab.executors.run", run)
    assert cli.main(["reproduce", "sugar-swin", "--scale", "smoke", "--out", str(tmp_path)]) == 2
    assert "**Unfinished: 0 of 12 runs.**" in (tmp_path / "sugar-swin.md").read_text()
    assert not list(Path(tmp_path).glob("*.svg"))
