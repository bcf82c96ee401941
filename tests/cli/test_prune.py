"""``undying prune`` from end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import undying
from undying import cli

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )
    nn.init.constant_(net[4].bias, 5.0)  # all of them fire
    return net

def breaks():
    net = build()
    net.append(nn.Linear(3, 3))
    return net
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A folder with a network, a checkpoint with five dead channels, and images, to work in."""
    (tmp_path / "own_prune_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    import own_prune_net

    net = own_prune_net.build()
    with torch.no_grad():
        net[1].bias[:5] = -1e3
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(draw.integers(0, 256, (12, 12, 3), np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    yield net.eval()
    sys.modules.pop("own_prune_net", None)


PRUNE = ("prune", "--model", "own_prune_net:build", "--checkpoint", "net.safetensors", "--data", "images")


def test_what_is_written_computes_the_same_in_another_process(own, capsys, fresh):
    assert cli.main([*PRUNE, "--out", "small", "--onnx"]) == 0
    shown = capsys.readouterr().out
    assert "parameters 2,138 -> 1,268" in " ".join(shown.split())  # 5 x (3 x 9 + 1) + 5 x 2 + 16 x 5 x 9 less
    torch.manual_seed(1)
    x = torch.randn(3, 3, 12, 12)
    wanted = own(x)
    torch.save(x, "x.pt")
    code = f"""
import os, sys, torch, undying
os.chdir({str(Path.cwd())!r})
sys.path.insert(0, ".")
from safetensors.torch import load_file
import own_prune_net
net = own_prune_net.build().eval()
undying.apply_recipe_(net, "small/recipe.json")
net.load_state_dict(load_file("small/weights.safetensors"))
torch.save((net(torch.load("x.pt")), net[0].out_channels, "torch_pruning" in sys.modules), "y.pt")
"""
    assert fresh(code).returncode == 0
    found, channels, imported = torch.load("y.pt")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert (channels, imported) == (7, False)
    session = onnxruntime.InferenceSession("small/network.onnx")
    (by_onnx,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(by_onnx), wanted, rtol=1e-4, atol=1e-5)
    report = json.loads(Path("small/report.json").read_text())
    assert report["cut"] == 5
    assert report["facts"]["weights"] == "net.safetensors"
    page = Path("small/report.html").read_text()
    assert "own_prune_net:build" in page
    assert "5 units that never change were cut out" in " ".join(page.split())


def test_a_certificate_cuts_what_no_image_can_wake(own, capsys):
    options = ("--preprocess", "0.5,0.5,0.5,0.25,0.25,0.25", "--certify", "--rounds", "0")
    assert cli.main([*PRUNE, *options, "--out", "small"]) == 0
    assert "for every finite input of" in " ".join(capsys.readouterr().out.split())
    assert len(load_file("small/weights.safetensors")["0.weight"]) == 7


def test_a_network_without_dead_units_stays_as_it_is(capsys):
    arguments = [word for word in PRUNE if word not in ("--checkpoint", "net.safetensors")]
    assert cli.main([*arguments, "--out", "small", "--rounds", "0"]) == 0
    assert "nothing was cut" in capsys.readouterr().out
    import own_prune_net

    net = own_prune_net.build()
    net.load_state_dict(load_file("small/weights.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--out", "net.safetensors"), "is a file; name a folder"),
        (("--out", "images"), "holds cat and no recipe.json; name a new folder"),
        (("--out", "small", "--rounds", "-1"), "--rounds must be at least 0"),
        (("--out", "small", "--tolerance", "nan"), "--tolerance must be at least 0, not nan"),
        (("--out", "small", "--axes", "act"), "must be site=axis"),
        (("--out", "small", "--data", "random:4,3,12,12", "--certify"), "--certify needs images"),
        (("--out", "small", "--model", "own_prune_net:breaks"), "does not fit Sequential: 2 parameters are missing"),
    ],
)
def test_mistakes_end_with_2_and_write_nothing(arguments, error, tmp_path, capsys):
    words = [*PRUNE]
    for option in arguments[::2]:
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    assert cli.main([*words, *arguments]) == 2
    assert error in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_the_checkpoint_is_never_replaced(own, capsys):
    assert cli.main([*PRUNE, "--out", "small", "--rounds", "0"]) == 0
    again = ("--checkpoint", "small/weights.safetensors", "--out", "small")
    assert cli.main(["prune", "--model", "own_prune_net:build", "--data", "images", *again]) == 2
    assert "would be replaced; name another --out" in capsys.readouterr().err
    assert cli.main([*PRUNE, "--out", "small", "--rounds", "0"]) == 0  # a folder of its own is written again


def test_an_onnx_that_computes_something_else_is_not_written(own, monkeypatch, capsys):
    from undying.cli import exported

    monkeypatch.setattr(exported, "_MOST", -1.0)
    assert cli.main([*PRUNE, "--out", "small", "--onnx", "--rounds", "0"]) == 2
    assert "more than rounding; nothing was written" in capsys.readouterr().err


def test_an_onnx_that_gives_nan_is_not_taken_for_equal(own, monkeypatch):
    from undying._base.errors import UndyingError
    from undying.cli.exported import exported

    class Session:
        def __init__(self, *_, **__):
            pass

        def get_inputs(self):
            return [type("Input", (), {"name": "x"})]

        def run(self, *_):
            return [np.full((2, 2), np.nan, np.float32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(UndyingError, match="differ by nan"):
        exported(own, [torch.rand(2, 3, 12, 12)])


def test_networks_of_two_tensors_have_no_onnx(monkeypatch):
    from undying._base.errors import UndyingError
    from undying.cli.exported import exported

    with pytest.raises(UndyingError, match="networks of one tensor"):
        exported(nn.Bilinear(2, 3, 4), [((torch.zeros(1, 2), torch.zeros(1, 3)), 0)])


def test_shared_weights_are_kept_once():
    from undying.cli.prune import _weights

    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    assert len(_weights(net)) < 4 * (16 + 4 + 4) + 400
    assert undying.__version__
