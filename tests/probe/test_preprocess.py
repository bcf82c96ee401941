"""The transforms of libraries are those of the libraries."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from undying.probe.data import ProbeOptions, probe
from undying.probe.preprocess import preprocessing

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    IMAGE.save(tmp_path / "0.png")
    return tmp_path


def read(folder, model, preprocess="", size=0):
    found = probe(ProbeOptions(str(folder), preprocess=preprocess, image_size=size), model)
    [(x, _)] = found.batches
    return x[0], found


def test_torchvisions_are_taken_where_the_model_names_them(folder):
    x, found = read(folder, "torchvision:resnet50")
    assert torch.equal(x, ResNet50_Weights.IMAGENET1K_V2.transforms()(IMAGE))
    assert "torchvision:ResNet50_Weights.IMAGENET1K_V1" in found.preprocessing  # which resize otherwise
    x, _ = read(folder, "torchvision:resnet50", "torchvision:ResNet50_Weights.IMAGENET1K_V1")
    assert torch.equal(x, ResNet50_Weights.IMAGENET1K_V1.transforms()(IMAGE))
    x, _ = read(folder, "torchvision:resnet50", size=28)
    assert torch.equal(x, ResNet50_Weights.IMAGENET1K_V2.transforms(crop_size=28, resize_size=29)(IMAGE))


def test_timms_are_taken_where_the_model_names_them(folder):
    config = resolve_model_data_config(timm.create_model("resnet10t"))
    x, found = read(folder, "timm:resnet10t")
    assert torch.equal(x, create_transform(**config, is_training=False)(IMAGE))
    assert "timm's of resnet10t, cropped to 176" in found.preprocessing
    x, _ = read(folder, "mine:net", "timm:resnet10t", 32)
    assert torch.equal(x, create_transform(**{**config, "input_size": (3, 32, 32)}, is_training=False)(IMAGE))


def test_imagenet_is_what_most_were_trained_with(folder):
    x, found = read(folder, "mine:net", "imagenet")
    assert torch.equal(x, ResNet18_Weights.IMAGENET1K_V1.transforms()(IMAGE))
    assert read(folder, "mine:net", "imagenet", 64)[0].shape == (3, 64, 64)
    assert found.scale == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (0.0, 1.0))


def test_compare_is_what_is_taken_elsewhere():
    assert preprocessing("", "mine:net") is None
    assert preprocessing("", "mlp") is None
    assert preprocessing("compare", "torchvision:resnet18") is None
