"""Networks by the name that a library has for them, and by import path from a folder outside the project."""

import sys

import pytest
import torch
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab import models
from undying.lab.activations import build_activation

SOURCE = """
import torch, torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self, shape=(3, 32, 32), num_classes=10, width=8):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3)
        self.head = nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(F.silu(self.conv(x)).mean((2, 3)))

def fixed(): return Net((1, 8, 8), 4)
def needy(width): return Net()
def nothing(): return "net"
def plain(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
def mixed(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.GELU(), nn.Linear(8, classes))
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "usersnets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("usersnets", None)


def converted(spec, shape, classes, activation="sugar", targets=(), drop_path=0.0):
    model = models.build(spec, shape, classes, drop_path)
    models.put_in(model, spec, torch.zeros(2, *shape), classes, build_activation(activation), targets)
    return model


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("torchvision:mobilenet_v3_small", (1, 32, 32)),
        ("torchvision:squeezenet1_1", (3, 32, 32)),
        ("timm:resnet10t", (2, 32, 32)),
        ("timm:test_vit", (1, 32, 32)),
    ],
)
def test_a_librarys_network_is_fitted_to_the_data_and_converted(spec, shape):
    model = converted(spec, shape, 5)
    assert any(isinstance(m, undying.SUGAR) for m in model.modules())
    assert model(torch.zeros(2, *shape)).shape == (2, 5)


def test_what_the_users_function_asks_for_it_gets():
    model = converted("usersnets:Net", (1, 8, 8), 4)
    assert (model.conv.in_channels, model.head.out_features) == (1, 4)
    calls = []
    for module in model.modules():
        if isinstance(module, undying.SUGAR):
            module.register_forward_hook(lambda *_: calls.append(1))
    model(torch.zeros(2, 1, 8, 8))
    assert calls == [1]  # the F.silu of its forward
    assert converted("usersnets:fixed", (1, 8, 8), 4)(torch.zeros(2, 1, 8, 8)).shape == (2, 4)


def test_the_networks_own_activation_is_the_one_it_holds_most_of_unless_targets_say():
    model = converted("usersnets:mixed", (1, 8, 8), 3)
    assert [type(m).__name__ for m in model if not isinstance(m, (nn.Linear, nn.Flatten))] == ["ReLU", "SUGAR", "SUGAR"]
    model = converted("usersnets:mixed", (1, 8, 8), 3, targets=("ReLU", "GELU"))
    assert [type(m).__name__ for m in model if not isinstance(m, (nn.Linear, nn.Flatten))] == ["SUGAR"] * 3


def test_an_edited_source_is_another_network(tmp_path):
    before = models.own_source("usersnets:Net")
    (tmp_path / "usersnets.py").write_text(SOURCE.replace("width=8", "width=9"))
    assert models.own_source("usersnets:Net") != before
    assert models.own_source("resnet18") == models.own_source("timm:resnet10t") == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.build("torchvision:resnet7", (3, 8, 8), 2), ["torchvision:resnet7"]),
        (lambda: models.build("timm:nosuchnet", (3, 8, 8), 2), ["timm:nosuchnet"]),
        (lambda: models.build("torchvision:resnet18", (3, 32, 32), 2, 0.1), ["stochastic_depth_prob"]),
        (lambda: models.build("usersnets:Net", (1, 8, 8), 2, 0.1), ["usersnets:Net", "drop_path", "--drop-path"]),
        (lambda: models.build("usersnets:needy", (1, 8, 8), 2), ["usersnets:needy", "width", "num_classes"]),
        (lambda: models.build("usersnets:nothing", (1, 8, 8), 2), ["str", "torch.nn.Module"]),
        (lambda: models.build("usersnets:absent", (1, 8, 8), 2), ["usersnets:absent"]),
        (lambda: models.build("nowhere:net", (1, 8, 8), 2), ["nowhere"]),
        (lambda: converted("usersnets:plain", (1, 8, 8), 4), ["usersnets:plain", "no activation"]),
        (lambda: converted("usersnets:fixed", (1, 8, 8), 5), ["usersnets:fixed", "(2, 4)", "5 classes"]),
        (lambda: converted("torchvision:googlenet", (3, 32, 32), 5), ["torchvision:googlenet", "GoogLeNetOutputs"]),
        (lambda: converted("usersnets:mixed", (1, 9, 9), 4), ["usersnets:mixed", "(1, 9, 9)"]),
    ],
)
def test_what_does_not_work_is_named(make, words):
    with pytest.raises(UndyingError) as error:
        make()
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UndyingError, match=r"undying\[vision\]"):
        models.build("resnet18", (3, 32, 32), 10)
