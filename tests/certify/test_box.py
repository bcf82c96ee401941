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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_box_of_a_preprocessing_holds_every_image(dtype):
    """All values that a channel can have, as torchvision and others normalize them in float32."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    box = Box.from_preprocessing(mean, std, (2, 128), dtype=dtype)
    assert box.shape == (1, 3, 2, 128)
    m, s = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    images = torch.arange(256.0).view(1, 1, 2, 128).expand(1, 3, 2, 128)
    forms = [(images / 255 - m) / s, images.div(255).sub(m).mul(1 / s), images * (1 / (255 * s)) - m / s]
    for x in (*forms, *(form.flip(2, 3) for form in forms)):
        assert x.to(dtype) in box
    for channel in range(3):  # and hardly more
        exact = [(end - mean[channel]) / std[channel] for end in (0, 1)]
        widening = 16 * torch.finfo(dtype).eps * max(map(abs, exact))
        assert exact[0] - widening < float(box.low[0, channel].min()) == float(box.low[0, channel].max()) <= exact[0]
        assert exact[1] + widening > float(box.high[0, channel].max()) == float(box.high[0, channel].min()) >= exact[1]


def test_the_box_of_pixels_as_bytes_and_of_one_channel():
    box = Box.from_preprocessing(130.0, 60.0, (4, 4), pixels=(0, 255), channels=1)
    assert box.shape == (1, 1, 4, 4)
    assert float(box.low.max()) == pytest.approx(-130 / 60, rel=1e-5)
    assert float(box.high.min()) == pytest.approx(125 / 60, rel=1e-5)
    assert Box.from_preprocessing(0.5, [0.5, 0.25], (1, 1)).high.flatten().tolist() == pytest.approx([1, 2], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (((0.5, 0.5), (0.5, 0.5, 0.5), (2, 2)), r"2 means and 3 standard deviations"),
        ((0.5, 0.0, (2, 2)), "above 0"),
        ((math.nan, 1.0, (2, 2)), "finite"),
        ((0.5, -1.0, (2, 2)), "above 0"),
        ((0.5, 0.5, (2,)), r"\(height, width\)"),
        ((0.5, 0.5, (0, 2)), r"\(height, width\)"),
    ],
)
def test_a_preprocessing_that_is_none_has_no_box(arguments, match):
    with pytest.raises(ValueError, match=match):
        Box.from_preprocessing(*arguments)
