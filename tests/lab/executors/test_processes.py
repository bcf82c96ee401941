"""Processes of this machine: what fails is noted and tried again, and the rest goes on."""

import importlib
import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

import undying
from undying._base.errors import UndyingError
from undying._base.lock import Lock
from undying.lab import Execution, Settings, compare
from undying.lab.executors.work import BUSY, execute
from undying.lab.plan import plan
from undying.lab.store import Store

ONE = Execution(workers=1)


def test_a_run_whose_process_dies_once_is_tried_again(of_the_pool, faulty, tmp_path):
    results = compare(faulty("seed 1 dies once"), tmp_path / "out", Execution(workers=2))
    assert json.dumps(results.to_dict()["activations"]) == json.dumps(of_the_pool)
    assert not list(tmp_path.glob("out/runs/*/failure.json"))


def test_runs_that_fail_twice_are_named_and_the_rest_is_finished(faulty, tmp_path):
    settings = faulty("seed 1 dies and has no memory")
    with pytest.raises(
        UndyingError, match=r"2 of 4 runs did not finish in two tries, .* seed 1: .*failure\.json.* again"
    ) as error:
        compare(settings, tmp_path / "out", ONE)
    assert "\n" not in str(error.value)
    store = Store(tmp_path / "out")
    todo = plan(settings, store.out)
    assert [config.seed for config in todo.missing] == [1, 1]
    dead, full = (store.failure(config)[1] for config in todo.missing)
    assert "killed or out of memory" in dead
    assert "allocate" in full


def test_a_mistake_that_concerns_every_run_ends_the_sweep(faulty, tmp_path):
    settings = faulty("none")
    Path("faulty.py").write_text(Path("faulty.py").read_text().replace("Linear(8, 10)", "Linear(8, 9)"))
    with pytest.raises(UndyingError, match=r"faulty:net.*\(2, 9\)"):
        compare(settings, tmp_path / "out", ONE)


SCRIPT = """
from undying.lab import Execution, Settings, compare

compare(Settings(activations=("relu", "sugar"), seeds=1, epochs=1), "out", Execution(workers=1))
"""


def test_a_script_that_every_worker_would_run_again_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("belongs under if __name__ == '__main__':")
    assert done.stderr.count("bootstrapping phase") == 1  # of one worker alone
    assert not list(tmp_path.glob("out/runs/*/failure.json"))


def test_workers_that_die_with_nothing_to_do_are_replaced(faulty, tmp_path):
    killed = []

    def finished(_):
        if not killed:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
                killed.append(worker)
            time.sleep(0.5)  # until the pool knows

    results = compare(faulty("none"), tmp_path / "out", ONE, finished)
    assert killed
    assert [len(a.score.values) for a in results.activations] == [2, 2]


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
        compare(settings, tmp_path, ONE, finished)
    assert order[-1] == todo.runs[0]
    assert all(store.finished(config) for config in todo.runs)


OWN = """
from torch import nn
import undying

class Ramp(nn.Module):
    def forward(self, x):
        return x.clamp(0, 1)

{registering}

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
"""


@pytest.fixture
def ramped(tmp_path, monkeypatch):
    """Function of whether the network's module registers an activation that gives settings of a comparison with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def make(module, registers):
        call = "undying.register_activation(Ramp)"
        Path(f"{module}.py").write_text(OWN.format(registering=call if registers else ""))
        own = importlib.import_module(module)
        if not registers:
            undying.register_activation(own.Ramp)
        return Settings(model=f"{module}:net", activations=("relu", "ramp"), seeds=1, epochs=1)

    return make


def test_a_worker_knows_what_the_networks_module_registers(ramped, tmp_path):
    results = compare(ramped("registers", True), tmp_path / "out", Execution(workers=2))
    assert [a.module for a in results.activations] == ["ReLU()", "Ramp()"]


def test_a_worker_says_that_it_does_not_know_what_only_the_caller_registered(ramped, tmp_path):
    settings = ramped("registers_not", False)
    with pytest.raises(
        UndyingError, match=r"unknown activation 'ramp' .* in a worker process if the module of --model"
    ):
        compare(settings, tmp_path / "out", Execution(workers=2))
