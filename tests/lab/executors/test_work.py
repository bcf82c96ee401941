"""One run in this process: what fails is a failed run, whatever it raises."""

import sys
from pathlib import Path

import pytest

from undying._base.errors import UndyingError
from undying.lab import Settings
from undying.lab.execution import Execution
from undying.lab.executors.work import BUSY, FAILED, execute
from undying.lab.plan import plan
from undying.lab.runs.classification import Classification
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

        monkeypatch.setattr(Classification, "train", train)
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

    monkeypatch.setattr(Classification, "train", train)
    assert execute(config, tmp_path, Execution(), False) == BUSY
