"""A run is finished or as good as absent, whatever happens to its files."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from undying._base.errors import UndyingError
from undying._base.lock import BusyError
from undying.lab.plan import stored as stored_plan
from undying.lab.runs.kind import Epoch
from undying.lab.runs.start import Start
from undying.lab.settings import FORMAT, Settings
from undying.lab.store import Store

SETTINGS = Settings(activations=("relu", "sugar"), seeds=1, epochs=2)
CONFIG = SETTINGS.runs("hash")[0]
RECORDS = {"environment": {}, "data": {}}
DATA = {"name": "digits", "sha256": "hash", "classes": 10, "train": 1437}


class Counted:
    """Stands for a census; the store asks it for nothing but this."""

    def to_dict(self):
        return {"sites": []}


def fake_training(config, checkpoint):
    for epoch in range(3):
        yield Epoch({"epoch": epoch, "seconds": 0.5}, Counted())


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "out")
    store.prepare(SETTINGS, DATA)
    return store


def stored(store, name):
    return store.out / "runs" / CONFIG.id / name


def test_round_trip(store):
    assert not store.finished(CONFIG)
    store.execute(CONFIG, fake_training, {"environment": {"torch": "x"}, "data": DATA})
    assert store.finished(CONFIG)
    run = store.read(CONFIG)
    assert (run.status, run.seconds, [e["epoch"] for e in run.epochs]) == ("finished", 1.5, [0, 1, 2])
    assert run.environment == {"torch": "x"}
    assert store.settings() == SETTINGS
    assert store.described() == (DATA, "", "", {})
    assert json.loads(stored(store, "data.json").read_text()) == DATA
    assert json.loads(stored(store, "config.json").read_text())["activation"] == "relu"


def test_a_finished_run_is_never_trained_or_written_again(store):
    store.execute(CONFIG, fake_training, RECORDS)

    def files():
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in stored(store, ".").iterdir()}

    before = files()

    def never(config, checkpoint):
        raise AssertionError("trained again")

    store.execute(CONFIG, never, RECORDS)
    assert before == files()


def test_a_run_that_fails_half_way_is_absent_and_starts_afresh(store):
    def fails(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 9.0}, Counted())
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        store.execute(CONFIG, fails, RECORDS)
    assert not store.finished(CONFIG)
    assert stored(store, "metrics.jsonl").read_text()
    store.execute(CONFIG, fake_training, RECORDS)
    assert store.read(CONFIG).seconds == 1.5


def test_a_diverged_run_is_finished_and_keeps_its_last_census(store):
    def diverges(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 0.1}, Counted())
        yield Epoch({"epoch": 1, "seconds": 0.1, "test_loss": None}, Counted(), diverged=True)

    store.execute(CONFIG, diverges, RECORDS)
    assert store.read(CONFIG).status == "diverged"
    assert json.loads(stored(store, "census.json").read_text()) == {"sites": []}


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("metrics.jsonl", lambda t: t[:-9], "truncated"),
        ("metrics.jsonl", lambda t: t.splitlines()[0] + "\n", "1 of 3 lines"),
        ("metrics.jsonl", lambda t: None, "missing"),
        ("result.json", lambda t: t[:5], "truncated"),
        ("result.json", lambda t: "[]", "object"),
        ("config.json", lambda t: "{}", "format"),
        ("environment.json", lambda t: None, "missing"),
        ("metrics.jsonl", lambda t: t.replace("0.5", "0.4"), "not as it was written"),
        ("metrics.jsonl", lambda t: t.replace("0.5", "[]"), "not as it was written"),
        ("config.json", lambda t: t.replace('"seed": 0', '"seed": 1'), "that of run"),
        ("config.json", lambda t: t.replace('"seed": 0', '"seed": "0"'), "seed is '0'"),
        ("config.json", lambda t: t.replace('"digits"', "null"), "data is None"),
        ("config.json", lambda t: "[" * 100_000, "not JSON"),
        ("result.json", lambda t: t.replace('"lines"', '"rows"'), "lines is missing"),
        ("result.json", lambda t: t.replace('"finished"', "5"), "status is missing or wrong"),
    ],
)
def test_damaged_runs_are_named_with_the_way_out_and_left_as_they_are(store, name, damage, words):
    store.execute(CONFIG, fake_training, RECORDS)
    path = stored(store, name)
    damaged = damage(path.read_text())
    if damaged is None:
        path.unlink()
    else:
        path.write_text(damaged)
    with pytest.raises(UndyingError) as error:
        store.read(CONFIG)
    assert all(word in str(error.value) for word in (str(path), words, f"delete {path.parent}"))
    assert path.exists() == (damaged is not None)
    assert damaged is None or path.read_text() == damaged


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_newer_version_is_refused(store, name):
    store.execute(CONFIG, fake_training, RECORDS)
    path = stored(store, name)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    with pytest.raises(UndyingError, match=f"newer undying.*format {FORMAT + 1}.*--out"):
        store.read(CONFIG)


def test_a_sweep_of_a_newer_version_is_not_overwritten(store):
    path = store.out / "sweep.json"
    path.write_text(json.dumps({"format": FORMAT + 1, "other": True}))
    for use in (lambda: store.prepare(SETTINGS, DATA), store.settings):
        with pytest.raises(UndyingError, match="newer undying"):
            use()
    assert json.loads(path.read_text())["other"]


def test_a_damaged_sweep_never_advises_to_delete_the_runs(store):
    (store.out / "sweep.json").write_text("{")
    with pytest.raises(UndyingError, match=r"delete \S+sweep\.json "):
        store.settings()


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UndyingError, match=r"cannot write to .*file/out.*--out"):
        Store(tmp_path / "file" / "out").prepare(SETTINGS, DATA)
    with pytest.raises(UndyingError, match="no comparison"):
        Store(tmp_path / "nowhere").settings()


def test_two_processes_at_one_run_train_it_once(store):
    """The second waits for the first, then finds the run finished."""
    program = textwrap.dedent(
        """
        import sys, time
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from undying.lab.store import Store
        from test_store import CONFIG, RECORDS, fake_training
        def slow(config, checkpoint):
            print("training", flush=True)
            time.sleep(1)
            yield from fake_training(config, checkpoint)
        Store(Path(sys.argv[1])).execute(CONFIG, slow, RECORDS)
        """
    )
    command = [sys.executable, "-c", program, str(store.out), str(Path(__file__).parent)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(outputs).count("training") == 1
    assert store.read(CONFIG).seconds == 1.5


def test_other_seeds_are_other_folders(store):
    other = dataclasses.replace(CONFIG, seed=5)
    store.execute(CONFIG, fake_training, RECORDS)
    assert not store.finished(other)


def checkpointed(lines):
    """A training of three epochs that keeps its state before the last, and says what it is given."""

    def training(config, checkpoint):
        state = checkpoint.read()
        begin = state["epoch"] if state else 0
        lines.append(begin)
        for epoch in range(begin, 3):
            if epoch == 2 and not state:
                checkpoint.write({"epoch": 2})
                raise RuntimeError("killed")
            yield Epoch({"epoch": epoch, "seconds": 0.5}, Counted())

    return training


def test_an_unfinished_run_goes_on_from_its_checkpoint(store):
    begun = []
    with pytest.raises(RuntimeError):
        store.execute(CONFIG, checkpointed(begun), RECORDS)
    with stored(store, "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "half of a li')  # from after the checkpoint
    store.execute(CONFIG, checkpointed(begun), RECORDS)
    assert begun == [0, 2]
    run = store.read(CONFIG)
    assert ([e["epoch"] for e in run.epochs], run.seconds) == ([0, 1, 2], 1.5)
    assert not stored(store, "checkpoint.pt").exists()


@pytest.mark.parametrize("text", ["", '{"epoch": 0}\n', '{"epoch": 0}\n{"ep', None])
def test_a_checkpoint_whose_metrics_are_lost_is_of_no_use(store, text):
    begun = []
    with pytest.raises(RuntimeError):
        store.execute(CONFIG, checkpointed(begun), RECORDS)
    if text is None:
        stored(store, "metrics.jsonl").unlink()
    else:
        stored(store, "metrics.jsonl").write_text(text)
    with pytest.raises(RuntimeError):
        store.execute(CONFIG, checkpointed(begun), RECORDS)
    assert begun == [0, 0]


def test_a_failure_is_noted_until_the_run_succeeds(store):
    store.fail(CONFIG, "Traceback\nboom")
    path, error = store.failure(CONFIG)
    assert error == "Traceback\nboom"
    assert path.exists()
    store.execute(CONFIG, fake_training, RECORDS)
    assert not path.exists()


def test_a_process_that_dies_after_its_run_has_finished_leaves_no_failure(store):
    store.execute(CONFIG, fake_training, RECORDS)
    store.fail(CONFIG, "the process died")
    assert not store.has_failed(CONFIG)


def test_nothing_but_the_runs_files_is_left(store):
    store.execute(CONFIG, fake_training, RECORDS)
    names = {"config.json", "environment.json", "data.json", "metrics.jsonl", "census.json", "result.json"}
    assert {p.name for p in stored(store, ".").iterdir()} == names


def test_a_folder_of_the_first_version_is_read(store):
    """Its sweep.json has none of the later settings and no description of the data."""
    first = {"data": "digits", "model": "mlp", "activations": ["relu", "sugar"], "seeds": 1, "epochs": 2, "lr": 0.01}
    first |= {"optimizer": "adam", "batch_size": 64}
    (store.out / "sweep.json").write_text(json.dumps({"format": 1, "settings": first}))
    assert store.settings() == dataclasses.replace(SETTINGS, lr=0.01)
    assert store.described() == (None, "", "", {})


def test_weights_and_census_are_kept_where_a_run_has_them(store):
    config = dataclasses.replace(CONFIG, keep=("weights",))
    folder = store.out / "runs" / config.id
    weights = {"a": torch.randn(3, 2), "n": torch.tensor(4)}

    def training(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 0.5}, None)
        yield Epoch({"epoch": 1, "seconds": 0.5}, None, weights=weights)

    store.execute(config, training, RECORDS)
    read = store.weights(config)
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    assert store.census(config) is None
    (folder / "weights.pt").write_bytes(b"PK")
    (folder / "census.json").write_text('{"format": 2}')
    with pytest.raises(UndyingError, match=r"weights\.pt cannot be read: it does not hold weights"):
        store.weights(config)
    with pytest.raises(UndyingError, match=r"census\.json cannot be read"):
        store.census(config)
    (folder / "weights.pt").unlink()
    with pytest.raises(UndyingError, match=r"weights\.pt cannot be read: it is missing"):
        store.weights(config)


def test_a_run_that_keeps_nothing_or_diverged_has_no_weights(store):
    store.execute(CONFIG, fake_training, RECORDS)
    assert store.weights(CONFIG) is None
    config = dataclasses.replace(CONFIG, keep=("weights",))
    store.execute(config, lambda *_: iter([Epoch({"epoch": 0, "seconds": 0.5}, None, diverged=True)]), RECORDS)
    assert store.weights(config) is None


def test_how_a_run_starts_is_kept_and_damage_to_it_named(store):
    start = Start("here", {"0.weight": "a"}, "b", "c", ["1.slope"])

    def training(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 0.5}, None, start=start)
        yield Epoch({"epoch": 1, "seconds": 0.5}, None)

    store.execute(CONFIG, training, RECORDS)
    assert store.read(CONFIG).start == start
    result = json.loads(stored(store, "result.json").read_text())
    del result["sha256"]["start.json"]  # as in early versions
    stored(store, "result.json").write_text(json.dumps(result))
    stored(store, "start.json").write_text('{"format": 1, "weights": 3}')
    with pytest.raises(UndyingError, match=r"start\.json cannot be read: it is not the start of a run"):
        store.read(CONFIG)
    stored(store, "start.json").unlink()
    assert store.read(CONFIG).start is None


@pytest.mark.parametrize("name", ["metrics.jsonl", "census.json", "environment.json", "data.json", "start.json"])
def test_a_file_of_a_finished_run_that_changed_or_went_is_named(store, name):
    start = Start("here", {"0.weight": "a"}, "b", "c", ["1.slope"])
    store.execute(CONFIG, lambda *_: iter([Epoch({"epoch": 0, "seconds": 0.5}, None, start=start)]), RECORDS)
    path = stored(store, name)
    content = path.read_text()
    path.write_text(content.replace("0.5", "0.6") if name == "metrics.jsonl" else content + " ")
    with pytest.raises(UndyingError, match=rf"{name} cannot be read: it is not as it was written"):
        store.read(CONFIG)
    path.unlink()
    with pytest.raises(UndyingError, match=rf"{name} cannot be read: it is missing"):
        store.read(CONFIG)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl"])
def test_what_is_no_file_is_named_and_not_waited_for(store, name, make):
    store.execute(CONFIG, fake_training, RECORDS)
    stored(store, name).unlink()
    make(stored(store, name))
    with pytest.raises(UndyingError, match=rf"{name} cannot be read: it is no file"):
        store.read(CONFIG)


def test_a_census_is_the_one_that_was_written(store):
    store.execute(CONFIG, fake_training, RECORDS)
    stored(store, "census.json").write_text("{}\n")
    for read in (store.census, store.read):
        with pytest.raises(UndyingError, match=r"census\.json cannot be read: it is not as it was written"):
            read(CONFIG)


@pytest.mark.parametrize(
    "damage",
    [
        {"settings": []},
        {"settings": {"later": 1}},
        {"settings": {"seeds": "3"}},
        {"settings": {"activations": ["relu", 3]}},
        {"data": []},
        {"data": {"name": "digits", "sha256": "hash", "classes": "10", "train": 1}},
        {"model_sha256": 3},
    ],
)
def test_a_sweep_that_holds_something_else_is_named(store, damage):
    path = store.out / "sweep.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    with pytest.raises(UndyingError, match=r"sweep\.json cannot be read"):
        stored_plan(store, store.settings())


def test_what_killed_processes_left_is_cleared_when_a_run_is_taken_up(store):
    stored(store, ".").mkdir()
    left = stored(store, f".checkpoint.pt.{'0a' * 8}")
    left.write_bytes(b"half")

    def looking(config, checkpoint):
        assert not left.exists()
        left.write_bytes(b"again")
        yield from fake_training(config, checkpoint)

    store.execute(CONFIG, looking, RECORDS)
    assert not left.exists()


def test_a_holder_that_was_stopped_while_another_finished_leaves_no_trace(store):
    """Another machine takes it for dead, trains the run, and clears up; then the stopped one goes on."""

    def stopped(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 9.0}, None)
        lock = stored(store, ".lease.1")
        lock.write_text(json.dumps({**json.loads(lock.read_text()), "started": "before"}))  # as one that died
        store.execute(CONFIG, fake_training, RECORDS)
        before.update((p.name, p.read_bytes()) for p in stored(store, ".").iterdir())
        checkpoint.write({"epoch": 1})

    before = {}
    with pytest.raises(BusyError):
        store.execute(CONFIG, stopped, RECORDS)
    assert {p.name: p.read_bytes() for p in stored(store, ".").iterdir()} == before
    assert store.read(CONFIG).seconds == 1.5


def test_a_holder_that_was_stopped_while_another_failed_finishes_its_own(store):
    def fails(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 1.0}, None)
        raise RuntimeError("boom")

    def stopped(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 0.5}, None)
        lock = stored(store, ".lease.1")
        lock.write_text(json.dumps({**json.loads(lock.read_text()), "started": "before"}))
        with pytest.raises(RuntimeError):
            store.execute(CONFIG, fails, RECORDS)
        yield Epoch({"epoch": 1, "seconds": 0.5}, None)

    store.execute(CONFIG, stopped, RECORDS)
    assert [epoch["epoch"] for epoch in store.read(CONFIG).epochs] == [0, 1]


def test_an_error_of_the_network_is_not_one_of_the_folder(store):
    def no_network(config, checkpoint):
        yield Epoch({"epoch": 0, "seconds": 1.0}, None)
        raise TimeoutError("the read operation timed out")

    with pytest.raises(TimeoutError):
        store.execute(CONFIG, no_network, RECORDS)


def test_a_full_disk_is_one_of_the_folder(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UndyingError, match=r"cannot write .*config\.json: No space left.* to resume"):
        store.execute(CONFIG, fake_training, RECORDS)


def test_what_an_early_version_wrote_is_read_as_it_is(store):
    """It noted no hashes, so a changed digit cannot be told."""
    store.execute(CONFIG, fake_training, RECORDS)
    result = json.loads(stored(store, "result.json").read_text())
    del result["sha256"]
    stored(store, "result.json").write_text(json.dumps(result))
    stored(store, "metrics.jsonl").write_text(stored(store, "metrics.jsonl").read_text().replace("0.5", "0.4"))
    assert [epoch["seconds"] for epoch in store.read(CONFIG).epochs] == [0.4, 0.4, 0.4]
