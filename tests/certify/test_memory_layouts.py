"""Certificates do not depend on how tensors lie in memory: that differs from input to input."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from certify.attack import bias_at, by_unit, check, inputs_in, pre_activations
from undying import Box, certify


class Forward(nn.Module):
    def __init__(self, layer, forward):
        super().__init__()
        self.layer, self.run, self.act, self.drop = layer, forward, nn.ReLU(), nn.Dropout()

    def forward(self, x):
        return self.run(self, x)


def other_layouts(x):
    """The same numbers, lying in memory in other ways."""
    yield x
    for dim in range(1, x.dim()):
        yield x.transpose(0, dim).contiguous().transpose(0, dim)
        yield x.transpose(1, dim).contiguous().transpose(1, dim)
    if x.dim() == 4:
        yield x.contiguous(memory_format=torch.channels_last)
    yield torch.stack([x, -x], -1)[..., 0]  # with gaps


def fires(net, x, site="act"):
    """By unit: whether it fires for x in any layout that the network takes."""
    fired = []
    for same in other_layouts(x):
        with contextlib.suppress(RuntimeError):  # a view that this layout has not
            fired.append((by_unit(pre_activations(net, same)[site]) > 0).any(0))
    return torch.stack(fired).any(0)


READS = {
    "of a transposed tensor": lambda m, x: m.act(m.layer(x).transpose(1, 2).as_strided((len(x), 6), (18, 1))),
    "of a sigmoid": lambda m, x: m.act(
        torch.sigmoid(m.layer(x).transpose(1, 2)).as_strided((len(x), 6), (18, 1)) - 0.6
    ),
    "of the input": lambda m, x: m.act(m.layer(x.as_strided((len(x), 3, 4), (12, 4, 1)))),
    "of a slice": lambda m, x: m.act(m.layer(x)[:, 1:].as_strided((len(x), 6), (18, 1), 0)),
    "of a permuted copy": lambda m, x: m.act(m.layer(x).permute(2, 0, 1).clone().as_strided((len(x), 6), (18, 3))),
    "of a weight": lambda m, x: m.act(F.linear(x, m.layer.weight.t().as_strided((6, 4), (4, 1)))),
}


@pytest.mark.parametrize("name", READS)
def test_reading_memory_as_it_lies_ends_it(name):
    net = Forward(bias_at(nn.Linear(4, 6), 1, 4), READS[name])
    certificate = certify(net, Box(-torch.ones(1, 3, 4), torch.ones(1, 3, 4)))
    assert certificate.stopped == ["Forward (as_strided)"]
    assert not certificate["act"].reached


VIEWS = {
    "sigmoid": lambda m, x: torch.sigmoid(m.layer(x).transpose(1, 2)).transpose(1, 2).view(len(x), 18),
    "in place": lambda m, x: m.layer(x).transpose(1, 2).sigmoid_().transpose(1, 2).view(len(x), 18),
    "sum of two": lambda m, x: (lambda y: (y + y).transpose(1, 2).view(len(x), 18))(m.layer(x).transpose(1, 2)),
    "times a constant": lambda m, x: (0.5 * m.layer(x).transpose(1, 2)).transpose(1, 2).view(len(x), 18),
    "clamp": lambda m, x: m.layer(x).transpose(1, 2).clamp(-5, 5).transpose(1, 2).view(len(x), 18),
    "dropout": lambda m, x: m.drop(m.layer(x).transpose(1, 2)).transpose(1, 2).view(len(x), 18),
    "where": lambda m, x: (
        (lambda y: torch.where(y > 0, y, 2 * y))(m.layer(x).transpose(1, 2)).transpose(1, 2).view(len(x), 18)
    ),
    "curve of a permuted one": lambda m, x: F.gelu(m.layer(x).permute(2, 0, 1)).permute(1, 2, 0).view(len(x), 18),
    "view_as": lambda m, x: torch.tanh(m.layer(x).transpose(1, 2)).transpose(1, 2).view_as(m.layer(x).flatten(1)),
    "maximum": lambda m, x: (lambda y: torch.maximum(y, y - 1).transpose(1, 2).view(len(x), 18))(
        m.layer(x).transpose(1, 2)
    ),
    "unflattened again": lambda m, x: (
        torch.sigmoid(m.layer(x).transpose(1, 2)).transpose(1, 2).view(len(x), 3, 2, 3).flatten(1)
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_that_the_network_can_take_is_bounded(name):
    net = Forward(bias_at(nn.Linear(4, 6), 1, 4), lambda m, x: m.act(VIEWS[name](m, x) - 0.001)).eval()
    box = Box(-torch.ones(1, 3, 4), torch.ones(1, 3, 4))
    certificate = certify(net, box)
    assert certificate.stopped == []
    for site, counted in zip(certificate.sites, undying.census(net, inputs_in(box).float()).sites, strict=True):
        assert (site.name, site.units) == (counted.name, counted.units)
        assert (site.upper >= counted.peak).all()
        if counted.silent is not None:
            assert counted.silent[site.dead].all()
    assert {int(unit) % 6 for unit in certificate["act"].dead.nonzero()} == {1, 4}


def test_bits_taken_for_another_type_end_it():
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int32):
        net = Forward(nn.Linear(4, 6), lambda m, x, dtype=dtype: m.act(m.layer(x).view(dtype).float()))
        certificate = certify(net, Box(torch.zeros(1, 4), torch.ones(1, 4)))
        assert certificate.stopped == ["Forward (view)"]


def test_a_network_in_channels_last():
    net = nn.Sequential(
        bias_at(nn.Conv2d(2, 6, 3), 1, 4), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
        nn.ReLU(),
    )  # fmt: skip
    bias_at(net[1], 2, 3)
    net = net.to(memory_format=torch.channels_last).eval()
    certificate = check(net, Box(torch.zeros(1, 2, 6, 6), torch.ones(1, 2, 6, 6)))
    assert certificate["2"].dead.nonzero().flatten().tolist() == [1, 2, 3, 4]
    assert not fires(net, torch.rand(20, 2, 6, 6), "2")[certificate["2"].dead].any()


def after(write):
    """relu of a tensor that may be a view of one that is overwritten, or a copy: all below 0 only if it is a view."""

    def forward(m, x):
        y = m.layer(x).abs()
        other = write(y)
        return m.act(other if other.dim() == 2 else other.flatten(2).transpose(1, 2))

    return forward


def _flat(y):
    flat = y.flatten(1)
    y.sub_(100.0)
    return flat


def _reshaped(y):
    shaped = y.reshape(len(y), -1)
    y.mul_(-1.0)
    return shaped


def _flat_of_a_transposed(y):
    flat = y.transpose(1, 3).flatten(1)  # a copy in the usual layout, a view in another
    flat.sub_(100.0)
    return y.reshape(len(y), -1)


def _written_through(y):
    y.flatten(1).sub_(100.0)
    return y


WRITES = {f.__name__.strip("_"): f for f in (_flat, _reshaped, _flat_of_a_transposed, _written_through)}


@pytest.mark.parametrize("name", WRITES)
def test_after_writing_in_place_what_may_be_a_copy_is_not_bounded(name):
    """Whether flatten gives a view depends on the layout: where it is a copy, it keeps the value of before."""
    net = Forward(nn.Conv2d(2, 4, 1), after(WRITES[name])).eval()
    x = torch.rand(5, 2, 3, 3)
    site = certify(net, Box(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)), axes={"act": -1})["act"]
    assert not site.reached
    assert fires(net, x).any()


def test_writing_in_place_is_followed_through_what_is_the_same_tensor():
    def dropped(m, x):
        y = m.layer(x)
        z = m.drop(y).detach()
        z.sub_(100.0)
        return m.act(y)

    def viewed(m, x):
        y = m.layer(x)
        y.view(y.shape).clamp_(max=-1.0).relu_()
        return m.act(y - 1)

    for forward in (dropped, viewed):
        net = Forward(nn.Linear(4, 3), forward).eval()
        box = Box(-torch.ones(1, 4), torch.ones(1, 4))
        assert certify(net, box)["act"].dead.all()
        assert not fires(net, inputs_in(box).float()).any()
