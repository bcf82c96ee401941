"""Every network of the list: it takes the data's shape and classes, and any activation in the place of its own."""

from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab import models
from undying.lab.activations import build_activation

CHEAP = ("mlp", "small_cnn", "vgg16_cifar", "vgg16_narrow", "resnet18", "resnet18_cifar", "swin_t", "conv2next_tiny")


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", CHEAP)
def test_shape_and_classes_come_from_the_data_and_any_activation_goes_in(name):
    shape = (1, 32, 32)
    torch.manual_seed(0)
    model = models.build(name, shape, 7)
    target = models.MODELS[name].target
    before = sum(type(m) is target for m in model.modules())
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    models.put_in(model, name, torch.zeros(2, *shape), 7, build_activation("sugar:nelu"))
    assert not [m for m in model.modules() if type(m) is target]
    assert sum(type(m) is undying.SUGAR for m in model.modules()) == before > 0
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())  # batch norm's too
    scores = model.train()(torch.randn(2, *shape))
    assert scores.shape == (2, 7)
    scores.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["swin_t", "conv2next_tiny"])
def test_relu_takes_the_place_of_gelu(name):
    model = models.build(name, (3, 32, 32), 10)
    models.put_in(model, name, torch.zeros(2, 3, 32, 32), 10, nn.ReLU())
    kinds = {type(m) for m in model.modules()}
    assert nn.ReLU in kinds
    assert nn.GELU not in kinds


def test_relu_in_the_place_of_relu_is_the_networks_own():
    model = models.build("resnet18", (3, 32, 32), 10)
    models.put_in(model, "resnet18", torch.zeros(2, 3, 32, 32), 10, nn.ReLU())
    assert all(m.inplace for m in model.modules() if isinstance(m, nn.ReLU))


def test_torchvisions_are_as_they_are():
    torch.manual_seed(3)
    ours = models.build("resnet18", (3, 32, 32), 10)
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(num_classes=10)
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_stems_for_32x32():
    resnet = models.build("resnet18_cifar", (3, 32, 32), 10)
    sizes = []
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        stage.register_forward_hook(lambda _, args, output: sizes.append(tuple(output.shape[1:])))
    resnet(torch.zeros(2, 3, 32, 32))
    assert sizes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert parameters(resnet) == 11_173_962  # 11.17 million, as the literature has for it
    swin = models.build("swin_t", (3, 32, 32), 10)
    assert swin.features[0](torch.zeros(2, 3, 32, 32)).shape == (2, 16, 16, 96)
    # Three linear layers became one: 512 * 10 + 10 for vgg16's classifier.
    assert parameters(models.build("vgg16_bn_cifar", (3, 32, 32), 10)) == 14_723_136 + 5130
    channels = [3, 16, 16, 32, 32, 64, 64, 64, *[128] * 6]
    narrow = sum(9 * i * o + o for i, o in pairwise(channels)) + 128 * 10 + 10
    assert parameters(models.build("vgg16_narrow", (3, 32, 32), 10)) == narrow


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.known("resnet"), ["--model", "'resnet'", "resnet18", "timm:NAME"]),
        (lambda: models.build("small_cnn", (64,), 10), ["small_cnn", "images", "(64,)"]),
        (lambda: models.build("mlp", (64,), 10, drop_path=0.1), ["mlp", "drop path", "swin_t"]),
        (
            lambda: models.put_in(models.build("mlp", (4,), 2), "mlp", torch.zeros(2, 4), 2, nn.SiLU(), ("GELU",)),
            ["mlp", "no GELU", "audit"],
        ),
        (
            lambda: models.put_in(
                models.build("vgg16_cifar", (1, 8, 8), 2), "vgg16_cifar", torch.zeros(2, 1, 8, 8), 2, nn.SiLU()
            ),
            ["vgg16_cifar", "(1, 8, 8)", "too small"],
        ),
    ],
)
def test_what_does_not_fit_is_named(make, words):
    with pytest.raises(UndyingError) as error:
        make()
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_drop_path_reaches_the_networks_that_have_it():
    for name in ("swin_t", "conv2next_tiny"):
        model = models.build(name, (3, 32, 32), 10, drop_path=0.3)
        rates = [m.p for m in model.modules() if type(m).__name__ == "StochasticDepth"]
        assert max(rates) == pytest.approx(0.3)
        assert rates == sorted(rates)
