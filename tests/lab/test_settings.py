"""Settings: what is refused, and that a run's id is its config."""

import dataclasses
import hashlib
import json
import shlex

import pytest

from undying._base.errors import UndyingError
from undying.lab.settings import Settings


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"data": "mnits"}, ["--data", "'mnits'", "digits"]),
        ({"model": "resnet"}, ["--model", "'resnet'", "mlp"]),
        ({"optimizer": "lion"}, ["--optimizer", "'lion'", "adam", "sgd"]),
        ({"activations": ("relu", "sugr")}, ["'sugr'", "sugar", "leaky_relu"]),
        ({"activations": ("relu", "sugar:nellu")}, ["'nellu'", "nelu", "bsilu"]),
        ({"activations": ("relu", "sugar:region=left")}, ["region", "'left'", "negative"]),
        ({"activations": ("relu", "barelu:eps=-1")}, ["eps", "-1"]),
        ({"activations": ("relu", "barelu:beta=1")}, ["barelu:beta=1", "beta"]),
        ({"activations": ("relu", "relu")}, ["'relu'", "twice"]),
        ({"activations": ("relu",)}, ["--activations", "two"]),
        ({"seeds": 0}, ["--seeds", "at least 1", "0"]),
        ({"epochs": -3}, ["--epochs", "-3"]),
        ({"batch_size": 0}, ["--batch-size", "0"]),
        ({"lr": -0.1}, ["--lr", "-0.1"]),
        ({"lr": float("nan")}, ["--lr", "nan"]),
        ({"lr": float("inf")}, ["--lr", "inf"]),
    ],
)
def test_wrong_settings_are_named_with_what_is_known(wrong, names):
    with pytest.raises(UndyingError) as error:
        Settings(**wrong)
    assert all(name in str(error.value) for name in names), error.value
    assert "\n" not in str(error.value)


def test_runs_are_every_activation_with_every_seed():
    settings = Settings(activations=("relu", "sugar"), seeds=3)
    runs = settings.runs("hash")
    assert {(r.activation, r.seed) for r in runs} == {(a, s) for a in ("relu", "sugar") for s in range(3)}
    assert len(runs) == 6


def test_the_id_depends_on_every_field_and_on_nothing_else():
    run = Settings().runs("hash")[0]
    again = Settings(activations=("relu", "gelu"), seeds=2).runs("hash")[0]
    assert run.id == again.id
    changed = {"data": "x", "data_sha256": "y", "model": "m", "activation": "elu", "seed": 7, "epochs": 9, "lr": 0.5}
    changed |= {"optimizer": "sgd", "batch_size": 1, "model_sha256": "z", "subset": 9, "validation": 0.1}
    changed |= {"image_size": 8, "augment": ("flip",), "targets": ("GELU",), "momentum": 0.5, "weight_decay": 0.0}
    changed |= {"schedule": "step", "warmup": 1.0, "label_smoothing": 0.1, "clip": 1.0, "ema": 0.9, "mixup": 0.8}
    changed |= {"cutmix": 1.0, "drop_path": 0.1, "amp": "bfloat16", "keep": ("norms",)}
    changed |= {"measure_every": 2, "task": "regression", "task_sha256": "z", "columns": ("a",), "tasks": 3}
    changed |= {"activation_sha256": "z"}
    assert changed.keys() == {f.name for f in dataclasses.fields(run)}
    ids = {dataclasses.replace(run, **{key: value}).id for key, value in changed.items()}
    assert len(ids | {run.id}) == len(changed) + 1


def test_an_id_is_that_of_before_there_were_recipes():
    """As the first version computed it: the digest of these fields and no others. Stores of that version stay."""
    run = Settings().runs("hash")[0]
    first = {"activation": "relu", "batch_size": 64, "data": "digits", "data_sha256": "hash", "epochs": 15}
    first |= {"format": 1, "lr": 0.01, "model": "mlp", "optimizer": "adam", "seed": 0}
    assert run.to_dict() == first
    canonical = json.dumps(first, sort_keys=True, separators=(",", ":"))
    assert run.id == hashlib.sha256(canonical.encode()).hexdigest()[:16]


def test_the_folder_of_the_data_has_no_part_in_the_id():
    ids = {Settings(data=spec).runs("hash")[0].id for spec in ("cifar10.npz", "/far/away/cifar10.npz", "./cifar10.npz")}
    assert len(ids) == 1


def test_the_command_makes_the_same_settings_again():
    settings = Settings(activations=("relu", "sugar:nelu:a=0.1"), seeds=2, lr=0.003, optimizer="sgd", augment=("flip",))
    words = shlex.split(settings.command("a folder"))
    assert words[:2] == ["undying", "compare"]
    assert words[words.index("--augment") + 1] == "flip"
    assert "--schedule" not in words  # the default
    assert words[words.index("--activations") + 1 :][:2] == ["relu", "sugar:nelu:a=0.1"]
    assert words[-2:] == ["--out", "a folder"]
