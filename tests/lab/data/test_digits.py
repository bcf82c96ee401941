"""The digits are scikit-learn's, split the same way every time."""

import dataclasses

import torch
from sklearn.datasets import load_digits

from undying.lab.data import load


def test_digits_are_all_there_once():
    digits = load("digits")
    assert digits.x_train.dtype == torch.uint8
    assert (len(digits.x_train), len(digits.x_test), digits.shape, digits.classes) == (1437, 360, (1, 8, 8), 10)
    pixels, labels = load_digits(return_X_y=True)
    ours = torch.cat([digits.x_train, digits.x_test]).flatten(1)
    rows = sorted(
        (*row, label)
        for row, label in zip(ours.tolist(), [*digits.y_train.tolist(), *digits.y_test.tolist()], strict=True)
    )
    assert rows == sorted((*map(int, row), int(label)) for row, label in zip(pixels, labels, strict=True))


def test_the_split_keeps_the_class_balance():
    digits = load("digits")
    shares = [torch.bincount(y).double() / len(y) for y in (digits.y_train, digits.y_test)]
    assert (shares[0] - shares[1]).abs().max() < 0.005


def test_the_hash_sees_every_tensor():
    digits = load("digits")
    hashes = {digits.sha256}
    for field in ("x_train", "y_train", "x_test", "y_test"):
        changed = getattr(digits, field).clone()
        changed.view(-1)[5] += 1
        hashes.add(dataclasses.replace(digits, **{field: changed}).sha256)
    assert len(hashes) == 5


def test_normalized_by_the_training_data():
    digits = load("digits")
    train, test = digits.standardised(digits.x_train), digits.standardised(digits.x_test)
    assert abs(train.mean()) < 1e-4
    assert abs(train.std() - 1) < 1e-4
    assert test.dtype == torch.float32
