"""Unused units: outgoing weights that are all 0, against what a change of the unit does to the output."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class Net(nn.Module):
    def __init__(self, forward, **modules):
        super().__init__()
        self.run, self.act = forward, nn.ReLU()
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.run(self, x)


def without_weights(weight, columns):
    with torch.no_grad():
        weight[columns] = 0
    return weight


def used(net, x, axis, units):
    """Units whose change changes the output, found by changing one after another."""

    def output(change):
        handle = net.act.register_forward_hook(lambda _, __, h: h + change)
        out = net(x)
        handle.remove()
        return out

    sizes = [1] * x.dim()
    sizes[axis] = units
    with torch.no_grad():
        net.eval()
        plain = output(0.0)
        return [u for u in range(units) if not torch.equal(output(10 * torch.eye(units)[u].view(sizes)), plain)]


LINEAR, MAP, TOKENS = (20, 4), (3, 2, 6, 6), (3, 5, 4)
GONE = [1, 4]


def linear(i, columns=(slice(None), GONE)):
    layer = nn.Linear(i, 3)
    without_weights(layer.weight, columns)
    return layer


def after_maps(layer):
    """One convolution, and then a layer with zero weights for units 1 and 4."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        without_weights(layer.weight, GONE)
    else:
        without_weights(layer.weight, (slice(None), GONE))
    return layer


def grouped():
    """Unit 1 is in the first of three groups of two, unit 4 in the last."""
    layer = nn.Conv2d(6, 6, 3, groups=3)
    without_weights(layer.weight, (slice(0, 2), 1))
    without_weights(layer.weight, (slice(4, 6), 0))
    return layer


def flat(i, places):
    """Zero weights for all places of units 1 and 4, and for one place of unit 2."""
    layer = nn.Linear(i, 3)
    with torch.no_grad():
        for u in GONE:
            layer.weight[:, u * places : (u + 1) * places] = 0
        layer.weight[:, 2 * places] = 0
    return layer


class ByParameter(nn.Module):
    def __init__(self, transposed):
        super().__init__()
        w = torch.randn(6, 3)
        w[GONE] = 0
        self.w, self.transposed = nn.Parameter(w.T.clone() if transposed else w), transposed

    def forward(self, h):
        return h @ self.w.t() if self.transposed else torch.matmul(h, self.w)


CASES = {
    "linear": (lambda m, x: m.out(m.act(m.a(x))), nn.Linear(4, 6), linear(6), LINEAR, 1),
    "linear on tokens": (lambda m, x: m.out(m.act(m.a(x))), nn.Linear(4, 6), linear(6), TOKENS, 2),
    "through dropout": (lambda m, x: m.out(F.dropout(m.act(m.a(x)), 0.5, m.training)), nn.Linear(4, 6), linear(6), LINEAR, 1),
    "a parameter": (lambda m, x: m.out(m.act(m.a(x))), nn.Linear(4, 6), ByParameter(False), LINEAR, 1),
    "a parameter transposed": (lambda m, x: m.out(m.act(m.a(x))), nn.Linear(4, 6), ByParameter(True), TOKENS, 2),
    "functional": (lambda m, x: F.linear(input=m.act(m.a(x)), weight=m.out.weight), nn.Linear(4, 6), linear(6), LINEAR, 1),
    "conv": (lambda m, x: m.out(m.act(m.a(x))), nn.Conv2d(2, 6, 3), after_maps(nn.Conv2d(6, 4, 3)), MAP, 1),
    "grouped conv": (lambda m, x: m.out(m.act(m.a(x))), nn.Conv2d(2, 6, 3), grouped(), MAP, 1),
    "transposed conv": (lambda m, x: m.out(m.act(m.a(x))), nn.Conv2d(2, 6, 3), after_maps(nn.ConvTranspose2d(6, 4, 3)), MAP, 1),
    "batch norm, pool, conv": (
        lambda m, x: m.out(F.max_pool2d(m.bn(m.act(m.a(x))), 2)), nn.Conv2d(2, 6, 3), after_maps(nn.Conv2d(6, 4, 1)), MAP, 1,
    ),
    "pool, flatten": (
        lambda m, x: m.out(F.avg_pool2d(m.act(m.a(x)), 2).flatten(1)), nn.Conv2d(2, 6, 3), flat(24, 4), MAP, 1,
    ),
    "mean": (lambda m, x: m.out(m.act(m.a(x)).mean((2, 3))), nn.Conv2d(2, 6, 3), linear(6), MAP, 1),
    "two readers": (
        lambda m, x: m.out(m.act(m.a(x))) + m.also(m.act.last), nn.Linear(4, 6), linear(6), LINEAR, 1,
    ),
}  # fmt: skip


class Keeping(nn.ReLU):
    """Keeps its output, for a second reader."""

    def forward(self, x):
        self.last = super().forward(x)
        return self.last


@pytest.mark.parametrize("name", CASES)
def test_units_without_outgoing_weights(name):
    forward, first, out, shape, axis = CASES[name]
    net = Net(forward, a=first, out=out, bn=nn.BatchNorm2d(6))
    x = torch.randn(shape)
    expected = GONE
    if name == "two readers":  # unit 1 is read by the other
        net.act, net.also = Keeping(), linear(6, (slice(None), [3, 4]))
        expected = [4]
    else:
        assert used(net, x, axis, 6) == [0, 2, 3, 5]
    assert undying.census(net, x)["act"].unused.nonzero().flatten().tolist() == expected


def zeros(i):
    return linear(i, (slice(None),))


UNKNOWN = {
    "the output": lambda m, x: m.act(m.a(x)),
    "a part of the output": lambda m, x: _both(m, x),
    "a residual": lambda m, x: m.out(m.act(m.a(x))) + m.act.last[:, :3],
    "an own sum": lambda m, x: m.out(m.act(m.a(x))) + m.act.last.sum(1, keepdim=True),
    "written into another": lambda m, x: _written(m, x),
    "another activation": lambda m, x: m.out(torch.tanh(m.act(m.a(x)))),
    "weights made from data": lambda m, x: (m.act(m.a(x)) @ (m.a(x) * 0).T) + m.act.last.mean(),
    "itself": lambda m, x: F.linear(m.act(m.a(x)), m.act.last * 0),
    "the bias of a sum": lambda m, x: torch.addmm(m.act(m.a(x)), m.act.last, torch.zeros(6, 6)),
    "softmax over units": lambda m, x: m.out(m.act(m.a(x)).softmax(1)),
    "pools over units": lambda m, x: m.out(F.max_pool1d(m.act(m.a(x)), 3, 1, 1)),
    "batch norm over places": lambda m, x: m.out(m.bn(m.act(m.a(x[:, :6]).unsqueeze(1).expand(-1, 6, -1)))),
}


def _both(m, x):
    h = m.act(m.a(x))
    return {"h": [h], "y": m.out(h)}


def _written(m, x):
    h = m.act(m.a(x))
    kept = torch.zeros(x.shape[0], 9)
    kept[:, :6] = h
    return m.out(h) + kept.sum()


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_is_said_where_anything_else_reads_the_output(name):
    net = Net(UNKNOWN[name], a=nn.Linear(4, 6), out=zeros(6), bn=nn.BatchNorm1d(6))
    net.act = Keeping()
    assert undying.census(net, torch.randn(20, 4))["act"].unused is None


def test_each_batch_need_not_tell_and_an_empty_one_cannot():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), linear(6))
    x = torch.randn(9, 4)
    assert undying.census(net, [x[:0], x[:5], x[5:]]).sites[0].unused.nonzero().flatten().tolist() == GONE


def test_the_table_has_a_column_for_it():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), linear(6), nn.ReLU())
    lines = str(undying.census(net, torch.randn(9, 4))).splitlines()
    assert lines[0].split()[-3:] == ["dormant", "unused", "firing"]
    assert [line.split()[-2] for line in lines[1:3]] == ["2", "-"]
    assert "unused" not in str(undying.census(net[:2], torch.randn(9, 4)))
