"""Boxes: of data, and bad ones."""

import math

import pytest
import torch
from torch import nn

from certify.attack import bias_at
from undying import Box, certify

INF = math.inf


def test_the_box_of_data():
    torch.manual_seed(0)
    x = torch.randn(20, 2, 3)
    for data in (x, [x], x.split(7), [(x, torch.zeros(20))], [{"x": x}], {"x": x}, iter(x.split(3))):
        box = Box.of(data)
        assert torch.equal(box.low, x.double().amin(0, keepdim=True))
        assert torch.equal(box.high, x.double().amax(0, keepdim=True))
        assert x in box
    assert x + 1 not in box
    net = nn.Sequential(nn.Flatten(), bias_at(nn.Linear(6, 4), 2), nn.ReLU())
    assert certify(net, Box.of(x))["2"].dead.tolist() == [False, False, True, False]
    for data, error, match in (
        ([], ValueError, "no batch"),
        ([{"x": x, "y": x}], ValueError, "one input"),
        (torch.tensor([[1, 2]]), TypeError, "int64"),
        (torch.tensor([[1.0, math.nan]]), ValueError, "NaN"),
        ([x, x[:, :1]], ValueError, r"\(1, 3\) after \(2, 3\)"),
        (x[:0], ValueError, "no sample"),
    ):
        with pytest.raises(error, match=match):
            Box.of(data)


def test_bad_boxes_are_refused():
    one, net = torch.ones(1, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    for box, error, match in (
        ((one, -one), ValueError, "at most high"),
        ((one * math.nan, one), ValueError, "NaN"),
        ((one * INF, one * INF), ValueError, "below inf"),
        ((torch.ones(2), torch.ones(3)), ValueError, "shape"),
        ((0, 1), ValueError, "single numbers"),
        ((one[:0], one[:0]), ValueError, "no input"),
        ((one.long(), one.long()), TypeError, "int64"),
        (one, TypeError, "pair"),
    ):
        with pytest.raises(error, match=match):
            certify(net, box)
    assert certify(net, (0, one)).box == Box(torch.zeros(1, 3), one)


def test_a_dataset_ends_at_its_length():
    class Endless(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return torch.full((1, 2), float(i))

    assert torch.equal(Box.of(Endless()).high, torch.full((1, 2), 2.0, dtype=torch.float64))


def test_a_pair_is_not_taken_for_two_batches():
    with pytest.raises(ValueError, match="pair"):
        Box.of((torch.rand(4, 3), torch.rand(4)))
