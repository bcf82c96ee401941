"""A run's state is whole or absent, and generators go on where they were."""

import random
import shutil
import warnings

import numpy as np
import pytest
import torch

from undying.lab.checkpoints import Checkpoint, random_state, restore_random, seed_everything


def test_tensors_and_plain_data_come_back(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.pt", 0)
    assert checkpoint.read() is None
    assert checkpoint.due()
    checkpoint.write({"a": torch.arange(3), "b": [1, (2.5, None)], "c": random_state()})
    state = checkpoint.read()
    assert torch.equal(state["a"], torch.arange(3))
    assert state["b"] == [1, (2.5, None)]
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.read() is None


def test_a_damaged_one_is_none(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint = Checkpoint(path, 0)
    checkpoint.write({"a": torch.arange(300)})
    whole = path.read_bytes()
    at = whole.index(bytes([7, 0, 0, 0, 0, 0, 0, 0, 8]))  # within the tensor
    for damaged in (
        whole[: len(whole) // 2],
        b"",
        b"text",
        whole[:at] + bytes([6]) + whole[at + 1 :],
        whole[:at] + bytes(1024) + whole[at + 1024 :],
        whole.replace(b"data.pkl", b"data.pkm", 1),
    ):
        path.write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match=r"c\.pt is of no use, so the run begins anew: "):
            assert checkpoint.read() is None
        assert checkpoint.read() is None  # and it is said once
        assert not path.exists()


def test_no_flipped_bit_is_taken_for_the_state(tmp_path):
    """Of every byte of the file: what is read is what was written, or nothing."""
    checkpoint = Checkpoint(tmp_path / "c.pt", 0)
    checkpoint.write({"a": torch.arange(4), "b": 0.5})
    whole = (tmp_path / "c.pt").read_bytes()
    lost = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(0, len(whole), 3):
            (tmp_path / "c.pt").write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
            state = checkpoint.read()
            lost += state is None
            assert state is None or (state["a"].tolist(), state["b"]) == ([0, 1, 2, 3], 0.5)
    assert lost > 100


def test_that_of_another_run_is_none(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    Checkpoint(tmp_path / "one" / "c.pt", 0).write({"a": 1})
    shutil.copy(tmp_path / "one" / "c.pt", tmp_path / "two")
    with pytest.warns(RuntimeWarning, match="another run's"):
        assert Checkpoint(tmp_path / "two" / "c.pt", 0).read() is None
    assert Checkpoint(tmp_path / "one" / "c.pt", 0).read() == {"a": 1}


def test_not_due_before_its_time(tmp_path):
    assert not Checkpoint(tmp_path / "c.pt", 1e9).due()


def test_all_generators_go_on_where_they_were():
    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item(), np.random.randn()

    seed_everything(3)
    first = draws()
    state = random_state()
    second = draws()
    restore_random(state)
    assert draws() == second
    seed_everything(3)
    assert draws() == first
