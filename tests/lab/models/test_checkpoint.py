"""Checkpoints are read as data, never run, and must fit."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from undying._base.errors import UndyingError
from undying.lab.models.checkpoint import load_weights


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("form", ["plain", "state_dict", "model_state_dict", "model", "ddp", "compiled", "safetensors"])
def test_every_usual_form_is_read(tmp_path, form):
    source, target = net(), net()
    weights = source.state_dict()
    path = tmp_path / "weights.pt"
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(weights, path)
    elif form == "ddp":
        torch.save({f"module.{name}": value for name, value in weights.items()}, path)
    elif form == "compiled":
        torch.save({"model": {f"_orig_mod.{name}": value for name, value in weights.items()}, "epoch": 3}, path)
    else:
        torch.save(weights if form == "plain" else {form: weights, "epoch": 3}, path)
    load_weights(target, path)
    assert all(torch.equal(value, weights[name]) for name, value in target.state_dict().items())


class Trap:
    def __reduce__(self):
        return (open, ("/nonexistent/ran", "w"))


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "trap.pt"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(UndyingError, match="could run code"):
        load_weights(net(), path)
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(UndyingError, match=r"trap.pt"):
        load_weights(net(), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "cannot read"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut"), "damaged|no checkpoint|could run"),
        (lambda path: torch.save([1, 2], path), "no state dict"),
        (lambda path: torch.save({}, path), "no state dict"),
        (lambda path: torch.save({"0.weight": torch.zeros(4, 3)}, path), "parameters are missing, such as '0.bias'"),
        (
            lambda path: torch.save({**net().state_dict(), "x": torch.zeros(1)}, path),
            "1 names are unknown, such as 'x'",
        ),
        (lambda path: torch.save(nn.Linear(3, 5).state_dict(), path), "does not fit Sequential"),
        (lambda path: torch.save({**net().state_dict(), "0.weight": torch.zeros(9, 3)}, path), "does not fit"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, write, message):
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(UndyingError, match=message):
        load_weights(net(), path)


def test_damaged_safetensors_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UndyingError, match="damaged"):
        load_weights(net(), path)
    with pytest.raises(UndyingError, match="cannot read"):
        load_weights(net(), tmp_path / "none.safetensors")
