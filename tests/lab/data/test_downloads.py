"""torchvision's data sets, from a copy and with no network. Nothing here reaches out."""

import gzip
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torchvision.datasets import mnist, utils

from undying._base.errors import UndyingError
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
    order = sorted(range(4), key=lambda i: pixels[i].tobytes())
    assert torch.equal(fashion.x_test[:, 0], torch.from_numpy(pixels[order]))
    assert fashion.y_train.tolist() == [[3, 1, 4, 9][i] for i in order]


def test_a_copy_in_the_style_of_keras_gives_the_same_data(tmp_path, monkeypatch):
    """The same images from torchvision's files and, in another order, from an .npz: the same hash, so the same runs."""
    rows = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    labels = [0, 1, 2, 3, 4, 5]

    class CIFAR10:
        classes = tuple("abcdefghij")

        def __init__(self, root, train, download):
            self.data, self.targets = rows.transpose(0, 2, 3, 1), labels

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", CIFAR10)
    downloaded = load("cifar10", root=tmp_path / "downloaded")
    order = [3, 0, 5, 1, 4, 2]
    y = np.array(labels, dtype=np.uint8)[order, None]
    images = rows.transpose(0, 2, 3, 1)[order]
    np.savez(tmp_path / "cifar10.npz", x_train=images, y_train=y, x_test=images, y_test=y)
    monkeypatch.undo()
    copied = load("cifar10", root=tmp_path)
    at = [bytes(row) for row in rows].index(bytes(copied.x_train[2].numpy()))
    assert copied.y_train[2] == labels[at]
    assert (copied.name, copied.sha256) == (downloaded.name, downloaded.sha256)


def test_the_root_is_the_environments_or_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDYING_DATA", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("UNDYING_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "undying"
