"""What a certificate proves dead goes, and no input of the box tells the difference."""

import copy
import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import undying
from recycling import Net

sys.path.insert(0, str(Path(__file__).parents[2] / "certify"))
from attack import ascend, inputs_in, within


def mlp():
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)), (6,)


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 10, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(40, 3),
    ), (2, 8, 8)  # fmt: skip


def bounded():
    """Of which some are certified to be at an end."""
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU6(), nn.Linear(24, 12), nn.Hardtanh(0.0, 4.0), nn.Linear(12, 3)), (6,)


def residual():
    def forward(net, x):
        h = net.first(net.stem(x))
        return net.fc(net.last(net.conv(h) + h).mean((-2, -1)))

    convs = {"stem": nn.Conv2d(2, 8, 1), "conv": nn.Conv2d(8, 8, 3, padding=1)}
    return Net(forward, **convs, first=nn.ReLU(), last=nn.ReLU(), fc=nn.Linear(8, 3)), (2, 5, 5)


@torch.no_grad()
def scattered(net):
    """Biases so far apart that some units cannot fire and some always do."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
            module.bias.copy_(3 * torch.randn(module.bias.shape))
            module.bias[0], module.bias[1] = -40.0, 60.0
    return net.eval()


def most_different(one, other, box, starts, steps=12):
    """Projected ascent, in float64, on the distance of two networks' outputs."""
    width, x = box.high - box.low, starts
    for i in range(steps):
        x = x.detach().requires_grad_()
        distance = (one(x) - other(x)).abs().sum()
        # Where they do not differ at all, away from where the first one's output is.
        target = distance if float(distance.detach()) else one(x).sum()
        (gradient,) = torch.autograd.grad(target, x)
        x = torch.minimum(torch.maximum(x + width * gradient.sign() * 0.5 / (1 + i), box.low), box.high)
    return x.detach()


@pytest.mark.parametrize("make", [mlp, cnn, bounded, residual], ids=lambda make: make.__name__)
def test_no_input_of_the_box_tells_the_difference(make):
    net, shape = make()
    scattered(net)
    box = undying.Box(torch.full((1, *shape), -1.0).double(), torch.full((1, *shape), 1.0).double())
    certificate = undying.certify(net, box)
    proved = {site.name: site.dead for site in certificate.sites}
    assert sum(int(dead.sum()) for dead in proved.values()) >= 3
    whole = copy.deepcopy(net)
    example = torch.zeros(1, *shape)
    report = undying.prune_(net, certificate, example)
    assert report.cut >= 2
    assert str(box) in report.holds
    if make is bounded:
        assert report["1"].folded
    if make is not residual:
        assert all(proved[row.name][unit] or unit in row.folded for row in report.rows for unit in row.cut)

    inputs = [inputs_in(box, torch.Generator().manual_seed(7), 400)]
    wide, cut = copy.deepcopy(whole).double(), copy.deepcopy(net).double()
    inputs.append(most_different(wide, cut, box, inputs[0][:150]))
    for row in report.rows if make is not bounded else ():
        woken = torch.tensor([unit for unit in row.cut if proved[row.name][unit]][:4])
        if len(woken):
            inputs.append(ascend(wide, box, row.name, woken, inputs[0][[0, 450]]))
    x = within(box, torch.cat(inputs), torch.float32)
    assert len(x) >= 1000
    with torch.no_grad():
        before, after = whole(x), net(x)
        assert float((after - before).abs().max()) <= 1e-5 * float(before.abs().max())
        assert float((wide(x.double()) - cut(x.double())).abs().max()) <= 1e-6 * float(before.abs().max())


def test_a_certificate_of_other_weights_is_caught():
    net, _ = mlp()
    scattered(net)
    box = undying.Box(torch.full((1, 6), -1.0).double(), torch.full((1, 6), 1.0).double())
    certificate = dataclasses.replace(undying.certify(net, box), weights=None)  # as of a file of before
    with torch.no_grad():
        net[0].bias[0] = 0.5
    report = undying.prune_(net, certificate, torch.randn(9, 6).clamp(-1, 1))
    assert "the weights or the data are others now" in report["1"].refused[0]


def test_a_certificate_of_another_network_is_an_error():
    net, _ = mlp()
    box = undying.Box(torch.zeros(1, 6).double(), torch.ones(1, 6).double())
    certificate = undying.certify(Net(lambda net, x: net.seq(x), seq=net), box)
    with pytest.raises(ValueError, match="the certificate is of a Net"):
        undying.prune_(net, certificate, torch.randn(9, 6))
