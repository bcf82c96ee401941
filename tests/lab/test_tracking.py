"""Finished runs in TensorBoard and W&B, with the real libraries."""

import json
import sys

import pytest

from stores import epochs_of, finish, prepared
from undying._base.errors import UndyingError
from undying.lab import Execution, Settings
from undying.lab.tracking import EpochScalars, Trackers, group

SETTINGS = Settings(activations=("relu", "sugar:nelu"), seeds=2, epochs=3)


@pytest.fixture
def sweep(tmp_path):
    store, configs = prepared(tmp_path / "out", SETTINGS)
    for config in configs:
        finish(store, config)
    return store, configs


def scalars_in(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_tensorboard_has_a_run_each_with_the_numbers_of_the_store(sweep, tmp_path):
    store, configs = sweep
    board = tmp_path / "board"
    trackers = Trackers(store, Execution(tensorboard=board))
    for config in configs:
        trackers.track(store.read(config))
    trackers.check()
    (folder,) = board.iterdir()
    assert folder.name == group(configs[0]) == group(configs[3])
    assert {path.name for path in folder.iterdir()} == {
        f"{name}-seed{c.seed}-{c.id}" for c in configs for name in [c.activation.replace(":", "-")]
    }
    config = configs[3]
    written = scalars_in(folder / f"sugar-nelu-seed1-{config.id}")
    lines = epochs_of(config)
    assert written["undying/test_accuracy"] == pytest.approx({x["epoch"]: x["test_accuracy"] for x in lines})
    assert written["undying/train_loss"] == pytest.approx({x["epoch"]: x["train_loss"] for x in lines[1:]})
    silent = {x["epoch"]: sum(site["silent"] for site in x["sites"]) / 384 for x in lines}
    assert written["undying/silent"] == pytest.approx(silent)
    for state in ("silent", "dead", "dormant"):  # a group of charts a layer
        assert written[f"undying act2/{state}"] == pytest.approx(
            {x["epoch"]: x["sites"][1][state] / 128 for x in lines}
        )

    before = files(board)
    again = Trackers(store, Execution(tensorboard=board))
    for config in configs:
        again.track(store.read(config))
    assert files(board) == before


def test_wandb_offline_has_a_run_each_once(wandb_offline, sweep, tmp_path, monkeypatch):
    store, configs = sweep
    started, logged, real = [], [], wandb_offline.init

    def init(**words):
        run = real(**words)
        log = run.log
        monkeypatch.setattr(run, "log", lambda values: logged.append(values) or log(values))
        started.append(words)
        return run

    monkeypatch.setattr(wandb_offline, "init", init)
    for _ in range(2):
        trackers = Trackers(store, Execution(wandb="unit"))
        for config in configs[:2]:
            trackers.track(store.read(config))
        trackers.check()
    assert [(words["id"], words["project"]) for words in started] == [(c.id, "unit") for c in configs[:2]]
    words = started[1]
    assert words["name"] == f"sugar:nelu seed 0 {configs[1].id}"
    assert words["group"] == group(configs[0])
    lines = epochs_of(configs[1])
    assert [values["undying/step"] for values in logged] == [0, 1, 2, 3] * 2
    assert [values["undying/test_accuracy"] for values in logged[4:]] == [x["test_accuracy"] for x in lines]
    for config in configs[:2]:
        assert len(list(tmp_path.glob(f"wandb/offline-run-*-{config.id}/*.wandb"))) == 1
    assert store.read(configs[0]).status == "finished"  # the note beside it is no matter


def test_what_is_unknown_is_left_out():
    sites = [{"name": "tanh", "units": 4, "silent": None, "dead": 1, "dormant": 0}]
    scalars = EpochScalars({"epoch": 2, "test_loss": None, "test_accuracy": 0.5, "sites": sites}).scalars()
    known = {"dead": 0.25, "dormant": 0.0}
    assert scalars == {"test_accuracy": 0.5, **known, **{f"{state}_at/tanh": share for state, share in known.items()}}


def test_runs_of_other_settings_are_another_group_and_further_seeds_are_not():
    def groups(**changed):
        return {group(c) for c in Settings(activations=("relu", "gelu"), **changed).runs("sha")}

    assert groups() == groups(seeds=30)
    assert len(groups() | groups(lr=0.1) | groups(weight_decay=0.1) | groups(model="small_cnn")) == 4


def test_neither_option_is_part_of_a_run():
    assert not {"tensorboard", "wandb"} & set(SETTINGS.runs("sha")[0].to_dict())


@pytest.mark.parametrize("option", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_before_anything_is_trained(sweep, tmp_path, monkeypatch, option):
    monkeypatch.setitem(sys.modules, option, None)
    with pytest.raises(UndyingError, match=f"--{option} needs {option}: pip install {option}"):
        Trackers(sweep[0], Execution(**{option: tmp_path if option == "tensorboard" else "unit"}))


def test_trouble_is_told_when_all_is_done_and_the_next_command_hands_on_the_rest(sweep, tmp_path):
    store, configs = sweep
    board = tmp_path / "board"
    board.write_text("in the way")
    trackers = Trackers(store, Execution(tensorboard=board))
    for config in configs:
        trackers.track(store.read(config))
    with pytest.raises(UndyingError, match=r"relu, seed 0: .*run the same command again"):
        trackers.check()
    board.unlink()
    trackers = Trackers(store, Execution(tensorboard=board))
    for config in configs:
        trackers.track(store.read(config))
    trackers.check()
    assert len(list(board.glob("*/*"))) == 4
    assert json.loads((store.out / "sweep.json").read_text())["settings"]["seeds"] == 2
