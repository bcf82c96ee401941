"""Data from a module outside the project."""

import sys
import textwrap

import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab.data.imported import imported

SOURCE = """
import random
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

X = torch.arange(10 * 12).reshape(10, 3, 2, 2).float()
Y = torch.arange(10) % 2

class Images(Dataset):
    classes = ["cat", "dog", "cow"]
    def __len__(self): return 4
    def __getitem__(self, i): return Image.fromarray(np.full((3, 5, 3), i, np.uint8)), i % 2

def tensors(): return TensorDataset(X, Y), TensorDataset(X[:4], Y[:4])
def loaders(): return tuple(DataLoader(d, batch_size=3, shuffle=True) for d in tensors())
def drawn():
    x = torch.rand(8, 2) + float(np.random.rand()) + random.random()
    return TensorDataset(x, Y[:8]), TensorDataset(x, Y[:8])
def images(): return Images(), Images()
def one(): return tensors()[0]
def strings(): return ["ab", "cd"], ["ef"]
def numbers(): return [1, 2], [3]
def ragged(): return [(torch.zeros(2), 0), (torch.zeros(3), 1)], [(torch.zeros(2), 0)]
def empty(): return [], []
def iterator(): return iter([]), iter([])
value = 3
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "usersdata.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("usersdata", None)


def test_two_datasets():
    data = imported("usersdata:tensors")
    assert (data.shape, data.classes, len(data.x_test)) == ((3, 2, 2), 2, 4)
    assert torch.equal(data.x_train, torch.arange(120).reshape(10, 3, 2, 2).float())


def test_shuffling_loaders_are_read_the_same_way_every_time_and_leave_the_generator():
    state = torch.get_rng_state()
    one, other = imported("usersdata:loaders"), imported("usersdata:loaders")
    assert torch.equal(state, torch.get_rng_state())
    assert one.sha256 == other.sha256
    assert sorted(one.x_train.flatten().tolist()) == list(range(120))
    assert torch.equal(one.x_train[:, 0, 0, 0] / 12 % 2, one.y_train.float())


def test_a_function_that_draws_draws_the_same_every_time():
    torch.rand(1)
    one = imported("usersdata:drawn")
    torch.rand(1)
    assert imported("usersdata:drawn").sha256 == one.sha256


def test_images_are_uint8_and_bring_their_classes():
    data = imported("usersdata:images")
    assert (data.x_train.dtype, data.shape, data.names) == (torch.uint8, (3, 3, 5), ("cat", "dog", "cow"))
    assert data.x_train[2].unique().tolist() == [2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one", ["TensorDataset", "(train, test)"]),
        ("strings", ["train", "(sample, class number)", "str"]),
        ("numbers", ["train", "int"]),
        ("ragged", ["different shapes"]),
        ("empty", ["empty"]),
        ("iterator", ["list_iterator", "DataLoader"]),
        ("value", ["int", "not a function"]),
        ("nothing", ["usersdata", "nothing"]),
    ],
)
def test_what_is_no_data_is_named(name, words):
    with pytest.raises(UndyingError) as error:
        imported(f"usersdata:{name}")
    assert all(word in str(error.value) for word in (f"usersdata:{name}", *words)), error.value


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(UndyingError, match="nowhere"):
        imported("nowhere.data:load")
