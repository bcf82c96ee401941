"""Checkpoints are read as data, never run, and must fit."""

import argparse
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


def same(net, weights):
    return all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda w: {f"_orig_mod.module.{n}": v for n, v in w.items()}, "names without their wrappers"),
        (lambda w: {f"module._orig_mod.{n}": v for n, v in w.items()}, "names without their wrappers"),
        (lambda w: {n.replace(".", ".module.", 1): v for n, v in w.items()}, "names without their wrappers"),
        (
            lambda w: {"state_dict": {f"net.{n}": v for n, v in w.items()}, "hyper_parameters": {"lr": 0.1}},
            "its 'state_dict', names without 'net.'",
        ),
        (lambda w: {"last": {"model": w, "epoch": 2}}, "its 'last.model'"),
        (lambda w: {"generator": w, "critic": nn.Linear(2, 2).state_dict()}, "its 'generator'"),
        (lambda w: {"model": w, "ema": nn.Linear(3, 4).state_dict()}, "its 'model'"),
        (lambda w: w, ""),
    ],
)
def test_what_was_taken_of_a_file_is_said(tmp_path, wrap, said):
    source, target = net(), net()
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pt")
    assert load_weights(target, tmp_path / "weights.pt") == said
    assert same(target, source.state_dict())


def test_a_network_that_has_such_names_itself_keeps_them(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)
            self.n_averaged = nn.Linear(2, 2)

    source, target = Own(), Own()
    torch.save({f"module.{n}": v for n, v in source.state_dict().items()}, tmp_path / "w.pt")
    assert load_weights(target, tmp_path / "w.pt") == "names without 'module.'"
    assert same(target, source.state_dict())


def test_several_sets_that_fit_are_refused_until_one_is_named(tmp_path):
    raw, average, target = net(), net(), net()
    path = tmp_path / "w.pt"
    torch.save({"model": raw.state_dict(), "model_ema": average.state_dict(), "step": 3}, path)
    with pytest.raises(UndyingError, match=r"several sets .* that fit: 'model', 'model_ema'; .*--checkpoint-key"):
        load_weights(target, path)
    assert load_weights(target, path, "model_ema") == "its 'model_ema'"
    assert same(target, average.state_dict())
    assert load_weights(target, path, "model") == "its 'model'"
    assert same(target, raw.state_dict())
    with pytest.raises(UndyingError, match=r"no weights 'ema' for --checkpoint-key; it has 'model', 'model_ema'"):
        load_weights(target, path, "ema")


def test_averages_of_torch_are_read(tmp_path):
    """As torchvision's own training script keeps them, with its arguments."""
    source, target = net(), net()
    average = torch.optim.swa_utils.AveragedModel(source)
    content = {"model_ema": average.state_dict(), "args": argparse.Namespace(lr=0.1, model="net"), "epoch": 1}
    torch.save(content, tmp_path / "w.pt")
    assert load_weights(target, tmp_path / "w.pt") == "its 'model_ema', names without their wrappers"
    assert same(target, source.state_dict())


def test_checkpoints_of_timm_are_read(tmp_path):
    """As its training script writes them: with the averages, the optimizer and the arguments beside the weights."""
    from timm.utils import CheckpointSaver, ModelEmaV3

    source, target = net(), net()
    average = ModelEmaV3(source, decay=0.5)
    with torch.no_grad():
        source[0].weight += 1
    average.update(source)
    optimizer = torch.optim.AdamW(source.parameters())
    source(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    arguments = argparse.Namespace(model="net", lr=0.1)
    saver = CheckpointSaver(source, optimizer, args=arguments, model_ema=average, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=0.5)
    path = tmp_path / "last.pth.tar"
    with pytest.raises(UndyingError, match="'state_dict', 'state_dict_ema'; name one with --checkpoint-key"):
        load_weights(target, path)
    assert load_weights(target, path, "state_dict_ema") == "its 'state_dict_ema'"
    assert same(target, average.module.state_dict())
    assert not same(target, source.state_dict())


def test_shared_weights_that_safetensors_keep_once_are_no_missing_ones(tmp_path):
    from safetensors.torch import save_model

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    source, target = Tied(), Tied()
    save_model(source, str(tmp_path / "w.safetensors"))
    load_weights(target, tmp_path / "w.safetensors")
    assert same(target, source.state_dict())
