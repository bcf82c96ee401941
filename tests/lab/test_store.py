"""A run is finished or as good as absent, whatever happens to its files."""

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab.runs.kind import Epoch
from undying.lab.runs.start import Start
from undying.lab.settings import FORMAT, Settings
from undying.lab.store import Store

SETTINGS = Settings(activations=("relu", "sugar"), seeds=1, epochs=2)
CONFIG = SETTINGS.runs("hash")[0]
RECORDS = {"environment": {}, "data": {}}
DATA = {"name": "digits", "sha256": "hash"}


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
    assert store.described() == (DATA, "")
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
    assert store.settings() == SETTINGS
    assert store.described() == (None, "")


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
    stored(store, "start.json").write_text('{"format": 1, "weights": 3}')
    with pytest.raises(UndyingError, match=r"start\.json cannot be read: it is not the start of a run"):
        store.read(CONFIG)
    stored(store, "start.json").unlink()
    assert store.read(CONFIG).start is None  # as in early versions
