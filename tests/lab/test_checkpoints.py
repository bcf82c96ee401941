"""A run's state is whole or absent, and generators go on where they were."""

import random

import numpy as np
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
    for damaged in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damaged)
        assert checkpoint.read() is None


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
