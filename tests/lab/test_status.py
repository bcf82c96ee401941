"""What is said of runs in every state that a store can be found in."""

import json
import os

import pytest

from stores import finish, prepared, stop_in
from undying._base.errors import UndyingError
from undying._base.lock import Lock
from undying.lab import Settings
from undying.lab.status import planned_runs, run_state, runs_of, under_way
from undying.lab.store import Store

SETTINGS = Settings(activations=("relu", "sugar"), seeds=4, epochs=3)


@pytest.fixture
def store(tmp_path):
    """relu: finished, diverged, interrupted after 2 lines, failed; sugar: damaged, damaged, not begun, not begun."""
    store, configs = prepared(tmp_path, SETTINGS)
    relu, sugar = ([c for c in configs if c.activation == name] for name in SETTINGS.activations)
    finish(store, relu[0])
    finish(store, relu[1], [{"epoch": 0, "test_accuracy": None, "seconds": 0.5}], diverged=True)
    stop_in(store, relu[2], 2)
    store.fail(relu[3], "Traceback ...\nValueError: a fault\n")
    finish(store, sugar[0])
    metrics = store.out / "runs" / sugar[0].id / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-30])
    finish(store, sugar[1])
    (store.out / "runs" / sugar[1].id / "config.json").write_text("{")
    return store


def states_of(store):
    return {(s.config.activation, s.config.seed) if s.config else s.id: s for s in runs_of(store, planned_runs(store))}


def test_every_status_and_its_numbers(store):
    states = states_of(store)
    assert {key: state.status for key, state in states.items()} == {
        ("relu", 0): "finished",
        ("relu", 1): "diverged",
        ("relu", 2): "interrupted",
        ("relu", 3): "failed",
        ("sugar", 0): "damaged",
        ("sugar", 1): "damaged",
    }
    done = states["relu", 0]
    lines = [json.loads(x) for x in (store.out / "runs" / done.id / "metrics.jsonl").read_text().splitlines()]
    assert (done.epoch, done.score) == (3, lines[-1]["test_accuracy"])
    assert done.silent == sum(site["silent"] for site in lines[-1]["sites"]) / (3 * 128)
    assert done.seconds == pytest.approx(sum(line["seconds"] for line in lines))
    assert (states["relu", 1].score, states["relu", 1].silent) == (None, None)
    assert states["relu", 2].epoch == 1
    assert states["relu", 3].reason == "ValueError: a fault"
    assert "metrics.jsonl" in states["sugar", 0].reason
    assert "config.json" in states["sugar", 1].reason


def test_looking_changes_nothing(store):
    def files():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in store.out.rglob("*")}

    before = files()
    runs_of(store, planned_runs(store))
    assert files() == before


def test_a_run_that_a_process_is_at_is_running_and_its_half_line_is_not_read(store):
    config = next(c for c in planned_runs(store).values() if (c.activation, c.seed) == ("relu", 2))
    folder = store.out / "runs" / config.id
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "sec')
    with Lock(folder):
        assert states_of(store)["relu", 2].status == "running"
        assert [(s.config, s.epoch) for s in under_way(store, planned_runs(store))] == [(config, 1)]
    assert states_of(store)["relu", 2].status == "interrupted"
    assert under_way(store, planned_runs(store)) == []


def test_the_lease_of_a_process_that_died_or_of_a_machine_long_silent_is_not_running(store):
    config = next(c for c in planned_runs(store).values() if (c.activation, c.seed) == ("relu", 2))
    lock = store.out / "runs" / config.id / ".lease.1"
    lock.write_text(json.dumps({"machine": "elsewhere", "pid": 1, "started": "1"}))
    assert run_state(store, config.id).status == "running"
    os.utime(lock, (1, 1))
    assert run_state(store, config.id).status == "interrupted"


def test_runs_of_other_comparisons_come_last(store):
    other = Settings(activations=("gelu", "silu"), seeds=1, epochs=1)
    store.prepare(other, {"name": "digits", "classes": 10, "train": 1437, "sha256": "digits-sha"})
    finish(store, other.runs("digits-sha")[1])
    assert [s.config.activation if s.config else None for s in runs_of(store, planned_runs(store))].count("silu") == 1
    assert runs_of(store, planned_runs(store))[0].config.activation == "silu"


def test_an_empty_folder_is_not_begun_and_a_foreign_one_is_damaged(store):
    config = next(c for c in planned_runs(store).values() if (c.activation, c.seed) == ("sugar", 3))
    (store.out / "runs" / config.id).mkdir()
    (store.out / "runs" / "holiday").mkdir()
    states = states_of(store)
    assert ("sugar", 3) not in states
    assert states["holiday"].status == "damaged"
    assert "config.json is missing" in states["holiday"].reason


SITE = '"name": "a", "units": 8, "dead": null, "dormant": 1'


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "nonsense\n",
        '{"epoch": 1}\n',
        "3\n",
        "\x00\n",
        '{"epoch": 0, "seconds": "1"}\n',
        '{"epoch": 0, "seconds": 1, "test_accuracy": "high"}\n',
        '{"epoch": 0, "seconds": 1, "sites": {}}\n',
        f'{{"epoch": 0, "seconds": 1, "sites": [{{{SITE}}}]}}\n',
        f'{{"epoch": 0, "seconds": 1, "sites": [{{{SITE}, "silent": "1"}}]}}\n',
        f'{{"epoch": 0, "seconds": 1{"0" * 400}}}\n',
        "[" * 100_000 + "\n",
    ],
)
def test_whatever_metrics_hold_the_rest_is_shown(store, content):
    config = next(c for c in planned_runs(store).values() if (c.activation, c.seed) == ("relu", 2))
    (store.out / "runs" / config.id / "metrics.jsonl").write_text(content)
    states = states_of(store)
    assert len(states) == 6
    assert states["relu", 2].status in ("damaged", "interrupted")
    assert states["relu", 0].status == "finished"


def test_a_config_that_is_another_runs_is_damaged(store):
    one, two, *_ = planned_runs(store)
    text = (store.out / "runs" / one / "config.json").read_text()
    (store.out / "runs" / two / "config.json").parent.mkdir(exist_ok=True)
    (store.out / "runs" / two / "config.json").write_text(text)
    assert one in run_state(store, two).reason


def test_no_comparison_there(tmp_path):
    with pytest.raises(UndyingError, match="holds no comparison"):
        planned_runs(Store(tmp_path))
