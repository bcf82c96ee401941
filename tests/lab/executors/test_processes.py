"""Processes of this machine: what fails is noted and tried again, and the rest goes on."""

import multiprocessing
import time
from pathlib import Path

import pytest

from undying._base.errors import UndyingError
from undying.lab import Execution, Settings, compare
from undying.lab.executors.work import BUSY, execute
from undying.lab.lock import Lock
from undying.lab.plan import plan
from undying.lab.store import Store


def test_a_run_whose_process_dies_once_is_tried_again(faulty, tmp_path):
    results = compare(faulty("dies once"), tmp_path / "out", Execution(workers=2))
    assert [len(a.accuracy.values) for a in results.activations] == [2, 2]
    assert not list(tmp_path.glob("out/runs/*/failure.json"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("out of memory", ["allocate"]),
        ("dies always", ["killed or out of memory"]),
    ],
)
def test_a_run_that_fails_twice_is_named_and_the_rest_is_finished(faulty, tmp_path, fault, words):
    settings = faulty(fault)
    with pytest.raises(
        UndyingError, match=r"2 of 4 runs did not finish in two tries, .* seed 1: .*failure\.json.* again"
    ) as error:
        compare(settings, tmp_path / "out", Execution(workers=2))
    assert "\n" not in str(error.value)
    store = Store(tmp_path / "out")
    todo = plan(settings, store.out)
    assert [config.seed for config in todo.missing] == [1, 1]
    for config in todo.missing:
        assert any(word in store.failure(config)[1] for word in words)


def test_a_mistake_that_concerns_every_run_ends_the_sweep(faulty, tmp_path):
    settings = faulty("none")
    Path("faulty.py").write_text(Path("faulty.py").read_text().replace("Linear(8, 10)", "Linear(8, 9)"))
    with pytest.raises(UndyingError, match=r"faulty:net.*\(2, 9\)"):
        compare(settings, tmp_path / "out", Execution(workers=2))


def test_workers_that_die_with_nothing_to_do_are_replaced(faulty, tmp_path):
    killed = []

    def finished(_):
        if not killed:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
                killed.append(worker)
            time.sleep(0.5)  # until the pool knows

    results = compare(faulty("none"), tmp_path / "out", Execution(workers=1), finished)
    assert killed
    assert [len(a.accuracy.values) for a in results.activations] == [2, 2]


def test_what_another_machine_is_at_is_left_until_the_end_and_then_waited_for(tmp_path):
    """One holds the first run for a while; the others are finished before it."""
    settings = Settings(activations=("relu", "sugar"), seeds=2, epochs=1)
    store = Store(tmp_path)
    todo = plan(settings, tmp_path)
    folder = tmp_path / "runs" / todo.runs[0].id
    folder.mkdir(parents=True)
    order = []

    def finished(config):
        order.append(config)
        if len(order) == 3:
            lock.__exit__(None, None, None)

    with Lock(folder) as lock:
        assert execute(todo.runs[0], tmp_path, Execution(), wait=False) == BUSY
        compare(settings, tmp_path, Execution(workers=1), finished)
    assert order[-1] == todo.runs[0]
    assert all(store.finished(config) for config in todo.runs)
