"""torchvision's data sets, from a copy and with no network. Nothing here reaches out."""

import gzip
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import mnist, utils

from undying.errors import UndyingError
from undying.lab.data import default_root, load


def no_network(*_, **__):
    raise urllib.error.URLError("[Errno -3] Temporary failure in name resolution")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
def test_without_a_network_the_folder_for_a_copy_is_named(tmp_path, monkeypatch, name, file):
    monkeypatch.setattr(utils, "_urlretrieve", no_network)
    with pytest.raises(UndyingError) as error:
        load(name, root=tmp_path / name)
    assert all(word in str(error.value) for word in (name, file, str(tmp_path / name), "--data-root"))
    assert "\n" not in str(error.value)


def test_a_download_that_fails_its_checksum_is_refused(tmp_path, monkeypatch):
    def wrong(url, filename, *_, **__):
        Path(filename).write_bytes(b"not the data set")

    monkeypatch.setattr(utils, "_urlretrieve", wrong)
    with pytest.raises(UndyingError, match="cifar10"):
        load("cifar10", root=tmp_path)


def test_a_copy_is_read_without_a_network(tmp_path, monkeypatch):
    """Fashion-MNIST's own format, with as few images as we like: torchvision is content with unpacked files."""
    monkeypatch.setattr(utils, "_urlretrieve", no_network)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype(np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 4, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes([3, 1, 4, 9]))
        for kind in ("images-idx3", "labels-idx1"):
            packed = raw / f"{part}-{kind}-ubyte.gz"
            packed.write_bytes(gzip.compress((raw / f"{part}-{kind}-ubyte").read_bytes()))
    fashion = load("fashion-mnist", root=tmp_path)
    assert (fashion.shape, fashion.classes, fashion.names[9]) == ((1, 28, 28), 10, mnist.FashionMNIST.classes[9])
    assert torch.equal(fashion.x_test[:, 0], torch.from_numpy(pixels))
    assert fashion.y_train.tolist() == [3, 1, 4, 9]


def test_the_root_is_the_environments_or_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDYING_DATA", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("UNDYING_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "undying"
