"""The comparison end to end: killed, interrupted, continued, always the same numbers."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from undying import cli
from undying._base.errors import UndyingError
from undying.lab.collect import collect
from undying.lab.comparison import compare, estimate_seconds
from undying.lab.execution import Execution
from undying.lab.plan import plan
from undying.lab.runs import together
from undying.lab.runs.kind import Epoch
from undying.lab.settings import Settings
from undying.lab.store import Store

ONE = Execution(workers=1)
SETTINGS = Settings(activations=("relu", "sugar"), seeds=3, epochs=4)
COMMAND = [
    sys.executable,
    "-m",
    "undying",
    "compare",
    "--activations",
    "relu",
    "sugar",
    "--seeds",
    "3",
    "--epochs",
    "4",
]


def started(out, workers, *more):
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), "--workers", str(workers), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and their children with them.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def workers_of(process):
    """Process ids of the pool's workers; empty until they have started."""
    servers = [pid for pid in children_of(process.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [worker for server in servers for worker in children_of(server)]


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, process):
    """Until ``condition()`` is true of a command that is still at it."""
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def succeed(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def finished_runs(out):
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("runs/*/result.json")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder and results of a command that nothing happens to, and the seconds that two workers train in it."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert cli.main([*COMMAND[3:], "--out", str(out), "--workers", "2"]) == 0
    store = Store(out)
    results = collect(store, SETTINGS)
    return out, results, sum(store.read(run).seconds for run in plan(SETTINGS, out).runs) / 2


def test_results_count_every_run(undisturbed):
    out, results, _ = undisturbed
    assert [a.name for a in results.activations] == ["relu", "sugar"]
    assert len(finished_runs(out)) == 6
    for activation in results.activations:
        assert len(activation.score.values) == 3
        assert [len(c.median) for c in activation.curves.values()] == [5] * 7
        assert [(s.name, s.units, len(s.silent)) for s in activation.sites] == [
            (f"act{i}", 128, 5) for i in range(1, 7)
        ]
    assert not results.baseline.comparisons
    assert set(results.activations[1].comparisons) == {"accuracy", "silent"}


def test_results_are_what_the_runs_hold(undisturbed):
    out, results, _ = undisturbed
    for activation in results.activations:
        accuracies, silent = [], []
        for seed in range(3):
            folders = [p.parent for p in out.glob("runs/*/config.json")]
            config = next(
                c
                for c in folders
                if {"activation": activation.name, "seed": seed}.items()
                <= json.loads((c / "config.json").read_text()).items()
            )
            last = json.loads((config / "metrics.jsonl").read_text().splitlines()[-1])
            accuracies.append(last["test_accuracy"])
            census = json.loads((config / "census.json").read_text())
            silent.append(sum(sum(site["silent"]) for site in census["sites"]) / 768)
        assert activation.score.values == accuracies
        assert activation.silent.values == pytest.approx(silent, rel=1e-12)


def test_numbers_do_not_depend_on_workers_or_on_what_else_is_in_the_folder(undisturbed, tmp_path):
    _, results, _ = undisturbed
    compare(Settings(activations=("sugar", "gelu"), seeds=1, epochs=4), tmp_path, ONE)
    again = compare(SETTINGS, tmp_path, ONE)
    assert again.to_dict()["activations"] == results.to_dict()["activations"]
    assert len(finished_runs(tmp_path)) == 7  # sugar's seed 0 was shared


def test_killed_at_random_moments_it_repeats_nothing_and_ends_with_the_same_bytes(undisturbed, tmp_path):
    """SIGKILL, three times, at moments drawn over the time that an undisturbed command takes with its workers."""
    clean, results, took = undisturbed
    out = tmp_path / "out"
    draw = random.Random(0)
    seen = {}
    for count in (2, 3, 1):
        process = started(out, count, "--checkpoint-seconds", "0.05")
        expected = min(count, 6 - len(seen))  # no more workers than runs that are left
        wait_until(lambda expected=expected, process=process: len(workers_of(process)) >= expected, process)
        workers = workers_of(process)
        try:
            process.wait(draw.uniform(0, 0.9) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        while any(map(running, workers)):
            time.sleep(0.05)  # never ends if a worker outlives its parent
        now = finished_runs(out)
        assert seen.items() <= now.items()  # nothing lost, nothing written again
        seen = now
    assert cli.main([*COMMAND[3:], "--out", str(out), "--workers", "2"]) == 0
    assert seen.items() <= finished_runs(out).items()
    texts = [(folder / "results.json").read_text().replace(str(folder), "OUT") for folder in (out, clean)]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["activations"] == json.loads(json.dumps(results.to_dict()["activations"]))


def test_ctrl_c_stops_cleanly_and_what_is_missing_is_trained_then(tmp_path):
    # So that it is still at it when the signal comes, and soon has one that is finished.
    process = started(tmp_path, 2, "--seeds", "50", "--together", "off")
    wait_until(lambda: finished_runs(tmp_path), process)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate()
    kept = finished_runs(tmp_path)
    assert process.returncode == 130
    assert errors.strip() == "undying: stopped; finished runs are kept: run the same command again to resume"
    assert kept
    if "relu" in {json.loads((tmp_path / "runs" / run / "config.json").read_text())["activation"] for run in kept}:
        assert f"Partial: {len(kept)} of 100 runs finished" in shown
        assert "'undying report" in shown
    results = compare(Settings(activations=("relu", "sugar"), seeds=2, epochs=4), tmp_path, ONE)
    assert [len(a.score.values) for a in results.activations] == [2, 2]
    assert kept.items() <= finished_runs(tmp_path).items()


def test_a_full_disk_is_an_error_and_with_room_the_store_goes_on_though_a_worker_is_killed(tmp_path):
    """A limit on file size stands for the full disk: both make write fail with an OSError."""
    limited = ["prlimit", "--fsize=2000", *COMMAND, "--workers", "1", "--out", str(tmp_path)]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert str(tmp_path) in lines[0]
    assert "to resume" in lines[0]
    assert not finished_runs(tmp_path)
    # There is room again, and all six runs are to be done: one worker is killed, another takes its place and its run.
    process = started(tmp_path, 2)
    wait_until(lambda: finished_runs(tmp_path), process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    succeed(process)
    assert len(finished_runs(tmp_path)) == 6
    assert not list(tmp_path.glob("runs/*/failure.json"))


def test_a_diverged_run_is_counted_with_the_accuracy_of_guessing(tmp_path):
    settings = Settings(activations=("relu", "leaky_relu"), seeds=2, epochs=1, optimizer="sgd", lr=1e9)
    results = compare(settings, tmp_path, ONE)
    for activation in results.activations:
        assert activation.diverged == 2
        assert activation.score.values == [0.1, 0.1]
        assert activation.test_loss is None
        assert activation.curves["train_loss"].median == [None, None]
        assert activation.sites[0].silent[1] is None
        assert activation.sites[0].silent[0] is not None


def test_an_unfinished_comparison_is_not_collected_unasked(undisturbed):
    out, *_ = undisturbed
    with pytest.raises(UndyingError, match=r"2 of 8 runs .* undying compare .*--seeds 4"):
        collect(Store(out), Settings(activations=("relu", "sugar"), seeds=4, epochs=4))


def test_the_plan_and_its_estimate(undisturbed, tmp_path):
    out, *_ = undisturbed
    done, two = plan(SETTINGS, out), Execution(workers=2)
    assert (len(done.runs), len(done.missing)) == (6, 0)
    assert estimate_seconds(done, two) == 0
    more = Settings(activations=("relu", "sugar"), seeds=5, epochs=4)
    half = plan(more, out)
    per_run = [Store(out).read(c).seconds for c in done.runs]
    assert estimate_seconds(half, two) == pytest.approx(4 * sum(per_run) / 6 / 2)
    fresh = plan(SETTINGS, tmp_path / "new")
    assert estimate_seconds(fresh, two) > 0
    assert not (tmp_path / "new").exists()


def test_the_estimate_is_of_runs_as_they_will_be_trained(tmp_path, monkeypatch):
    sizes = []

    def slow(configs, execution, checkpoints):
        assert checkpoints is None
        sizes.append(len(configs))
        for epoch in range(5):
            for run in range(len(configs)):
                yield run, Epoch({"epoch": epoch, "seconds": 10.0**epoch * (1 + 7 * run)}, None)

    monkeypatch.setattr(together, "train_together", slow)
    settings = Settings(activations=("relu", "gelu"), seeds=6, epochs=4)
    assert estimate_seconds(plan(settings, tmp_path), Execution(workers=2)) == pytest.approx(100 * (4 + 1) * 12 / 2)
    assert sizes == [6]
    alone = estimate_seconds(plan(settings, tmp_path), Execution(workers=2, together="off"))
    assert 0 < alone < 3000
    assert sizes == [6]


def test_a_damaged_run_is_found_before_anything_is_trained(undisturbed, tmp_path):
    out = shutil.copytree(undisturbed[0], tmp_path / "damaged")
    victim = next(out.glob("runs/*/metrics.jsonl"))
    victim.write_text(victim.read_text()[:-20])
    with pytest.raises(UndyingError, match=str(victim)):
        compare(Settings(activations=("relu", "sugar"), seeds=4, epochs=4), out, ONE)
    assert len(finished_runs(out)) == 6


def test_a_report_needs_the_data_no_more(tmp_path):
    """Nor the network: the folder can be read on another machine."""
    x, y = np.zeros((20, 4), np.float32) + np.arange(20)[:, None], np.arange(20) % 2
    np.savez(tmp_path / "rows.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = Settings(data=str(tmp_path / "rows.npz"), activations=("relu", "sugar"), seeds=1, epochs=1)
    results = compare(settings, tmp_path / "out", ONE)
    assert (results.data["name"], results.data["train"], results.probe) == ("rows", 20, 20)
    (tmp_path / "rows.npz").unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    store = Store(tmp_path / "moved")
    again = collect(store, store.settings()).to_dict()
    assert again["activations"] == results.to_dict()["activations"]
