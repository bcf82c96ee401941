"""Rows of activations in a file: what is held out, and what is refused."""

import re

import numpy as np
import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab.data.activations import activations


def test_the_last_rows_are_held_out_and_a_sample_is_its_own_target(tmp_path):
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float16)
    np.save(tmp_path / "mine.npy", rows)
    found = activations("mine", tmp_path)
    assert torch.equal(found.x_train, torch.from_numpy(rows[:60]))
    assert torch.equal(found.x_test, torch.from_numpy(rows[60:]))
    assert found.y_train is found.x_train
    assert found.describe()["train"] == 60
    changed = rows.copy()
    changed[63, 2] += 1
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "mine.npy", changed)
    assert activations("mine", tmp_path / "other").sha256 != found.sha256


def test_generated_rows_need_no_file_and_are_always_the_same(tmp_path):
    found = activations("generated", tmp_path)
    assert found.shape == (16,)
    assert found.sha256 == activations.__wrapped__("generated").sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no"),
        (b"no array", "cannot be read as an array"),
        (np.zeros((64, 3), dtype=np.int64), "must hold an array (rows, width)"),
        (np.zeros(64), "must hold an array (rows, width)"),
        (np.zeros((3, 3)), "must hold an array (rows, width)"),
        (np.full((64, 3), np.nan), "infinite or NaN"),
    ],
)
def test_what_is_no_such_file_is_refused_with_a_way_out(tmp_path, content, message):
    path = tmp_path / "mine.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UndyingError, match=re.escape(message)):
        activations("mine", tmp_path)
