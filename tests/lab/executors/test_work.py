"""One run in this process: what fails is a failed run, whatever it raises."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from undying._base.errors import UndyingError
from undying._base.lock import Lock
from undying.lab import Settings
from undying.lab.execution import Execution
from undying.lab.executors.work import ALONE, BUSY, FAILED, FINISHED, Queue, execute, execute_group, groups_of
from undying.lab.plan import plan
from undying.lab.runs import together
from undying.lab.runs.classification import ClassificationKind
from undying.lab.runs.kind import Epoch
from undying.lab.store import Store

SETTINGS = Settings(activations=("relu", "sugar"), seeds=1, epochs=1)


class Quits(BaseException):
    pass


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Function of an exception that a network raises in training that gives what becomes of a run, and the store's note."""

    def of(error):
        def train(*_):
            yield Epoch({"epoch": 0, "seconds": 1.0}, None)
            raise error

        monkeypatch.setattr(ClassificationKind, "train", train)
        config, store = plan(SETTINGS, tmp_path).runs[0], Store(tmp_path)
        outcome = execute(config, tmp_path, Execution(), True)
        return outcome, store.failure(config)[1].splitlines()[-1]

    return of


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(0), "SystemExit: 0"),
        (TimeoutError("the read operation timed out"), "TimeoutError: the read operation timed out"),
        (
            FileNotFoundError(2, "No such file", "weights.bin"),
            "FileNotFoundError: [Errno 2] No such file: 'weights.bin'",
        ),
        (MemoryError("much"), "MemoryError: much"),
        (Quits("x"), "test_work.Quits: x"),
    ],
)
def test_whatever_a_network_raises_its_run_alone_has_failed(run, error, said):
    outcome, note = run(error)
    assert outcome == FAILED
    assert note.endswith(said)


def test_a_stop_by_the_user_is_none(run):
    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt())


def test_a_network_that_keeps_state_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("keeps.py").write_text(
        "from torch import nn\nBODY = nn.Linear(64, 8)\n"
        "def net(): return nn.Sequential(nn.Flatten(), BODY, nn.ReLU(), nn.Linear(8, 10))\n"
    )
    out = tmp_path / "out"
    config = plan(Settings(model="keeps:net", activations=("relu", "sugar"), seeds=1, epochs=1), out).runs[0]
    with pytest.raises(UndyingError, match="model 'keeps:net', built a second time"):
        execute(config, out, Execution(), True)
    assert not out.exists()
    sys.modules.pop("keeps")


def test_a_run_that_another_process_took_over_is_busy(tmp_path, monkeypatch):
    config = plan(SETTINGS, tmp_path).runs[0]

    def train(*_):
        yield Epoch({"epoch": 0, "seconds": 1.0}, None)
        (tmp_path / "runs" / config.id / ".lease.2").write_text("{}")
        yield Epoch({"epoch": 1, "seconds": 1.0}, None)

    monkeypatch.setattr(ClassificationKind, "train", train)
    assert execute(config, tmp_path, Execution(), False) == BUSY


# ---------------------------------------------------------------------------------------------------------------------
# Together

MANY = Settings(activations=("relu", "sugar", "relu+redo"), seeds=7, epochs=1, subset=100)


def seeds_of(groups):
    return [(group[0].activation, [config.seed for config in group]) for group in groups]


def test_groups_are_of_one_arm_and_leave_no_worker_idle(tmp_path):
    todo = plan(MANY, tmp_path).runs
    alone = [("relu+redo", [seed]) for seed in range(7)]
    assert sorted(seeds_of(groups_of(todo, tmp_path, Execution(workers=1)))) == sorted(
        [("relu", [*range(7)]), ("sugar", [*range(7)]), *alone]
    )
    many = groups_of(todo, tmp_path, Execution(workers=7))
    assert sorted(seeds_of(many))[0] == ("relu", [0, 1])
    assert max(len(group) for group in many) <= 3
    assert sorted(config.id for group in many for config in group) == sorted(config.id for config in todo)
    assert all(len(group) == 1 for group in groups_of(todo, tmp_path, Execution(workers=1, together="off")))


def test_a_run_with_a_checkpoint_goes_on_alone(tmp_path):
    todo = plan(MANY, tmp_path).runs
    folder = tmp_path / "runs" / todo[0].id
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").touch()
    groups = seeds_of(groups_of(todo, tmp_path, Execution(workers=1)))
    assert ("relu", [0]) in groups
    assert ("relu", [1, 2, 3, 4, 5, 6]) in groups


def lines_of(store, config):
    return [
        {key: value for key, value in line.items() if "seconds" not in key and key != "together"}
        for line in store.read(config).epochs
    ]


def test_a_group_is_stored_as_each_run_alone(tmp_path):
    runs = [config for config in plan(MANY, tmp_path).runs if config.activation == "sugar"][:3]
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "runs" / runs[2].id).mkdir(parents=True)
    with Lock(one / "runs" / runs[2].id):
        assert execute_group(runs, one, Execution(), False) == [FINISHED, FINISHED, BUSY]
    for config in runs[:2]:
        assert execute(config, other, Execution(), False) == FINISHED
        assert lines_of(Store(one), config) == lines_of(Store(other), config)
        assert Store(one).read(config).start == Store(other).read(config).start
        assert (one / "runs" / config.id / "census.json").read_text() == (
            other / "runs" / config.id / "census.json"
        ).read_text()
        assert Store(one).read(config).epochs[-1]["together"] == 2
    assert execute_group(runs, one, Execution(), False) == [FINISHED, FINISHED, ALONE]  # one that is left is no group


def test_what_cannot_be_stacked_or_fails_is_left_to_be_trained_alone(tmp_path, monkeypatch):
    runs = [config for config in plan(MANY, tmp_path).runs if config.activation == "relu"][:2]
    convolutions = [replace(config, model="small_cnn") for config in runs]
    assert execute_group(convolutions, tmp_path, Execution(), False) == [ALONE, ALONE]

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(together, "train_together", fails)
    assert execute_group(runs, tmp_path, Execution(), False) == [ALONE, ALONE]
    assert not list(tmp_path.glob("runs/*/result.json"))
    assert not list(tmp_path.glob("runs/*/failure.json"))
    assert not list(tmp_path.glob("runs/*/.lease*"))


def test_alone_comes_before_what_is_waited_for():
    queue = Queue([(1, 2, 3)])
    assert queue.take() == ((1, 2, 3), False)
    for run, outcome in zip((1, 2, 3), (BUSY, ALONE, FAILED), strict=True):
        queue.put(run, outcome)
    assert [queue.take() for _ in range(3)] == [((2,), False), ((1,), True), ((3,), False)]
