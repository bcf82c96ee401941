"""Saturated units of bounded activations, against their outputs and derivatives."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying.activations.saturation import ends

LENGTH = {nn.Tanh: 2.0, nn.Sigmoid: 1.0}


@pytest.mark.parametrize("kind", LENGTH)
def test_an_end_is_within_one_hundredth_of_the_range(kind):
    low, high = ends(kind, kind(), (), {})
    out = kind()(torch.tensor([low, high], dtype=torch.float64))
    bottom, top = (0.0, 1.0) if kind is nn.Sigmoid else (-1.0, 1.0)
    torch.testing.assert_close(out, torch.tensor([bottom, top]).double() + LENGTH[kind] * torch.tensor([0.01, -0.01]))


@pytest.mark.parametrize(
    "act",
    [nn.ReLU6(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardtanh(-0.5, 4.0), nn.Hardtanh(0.0, 1.0)],
)
def test_an_end_of_a_piecewise_linear_one_is_where_its_derivative_is_0(act):
    low, high = ends(type(act), act, (), {})
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64).requires_grad_()
    act(x).sum().backward()
    flat = x.grad == 0
    below = x <= low if low > -torch.inf else x <= 0
    assert torch.equal(flat, below | (x >= high))


@pytest.mark.parametrize(
    ("call", "kind", "expected"),
    [
        (F.hardtanh, nn.Hardtanh, (-1.0, 1.0)),
        (lambda x: F.hardtanh(x, -2.0, 0.5), nn.Hardtanh, (-2.0, 0.5)),
        (lambda x: F.hardtanh(x, max_val=3.0, inplace=True), nn.Hardtanh, (-1.0, 3.0)),
        (F.relu6, nn.ReLU6, (-torch.inf, 6.0)),
        (torch.tanh, nn.Tanh, (-2.29756, 2.29756)),
        (torch.Tensor.sigmoid, nn.Sigmoid, (-4.59512, 4.59512)),
        (F.hardsigmoid, nn.Hardsigmoid, (-3.0, 3.0)),
    ],
)
def test_functions_with_their_arguments(call, kind, expected):
    class Call(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 5)

        def forward(self, x):
            return call(self.lin(x))

    net, x = Call(), torch.randn(200, 4) * 3
    with torch.no_grad():
        net.lin.bias[0], net.lin.bias[1] = 1e3, -1e3
    pre = net.lin(x).detach()
    (site,) = undying.census(net, x).sites
    low, high = expected
    assert site.kind == kind.__name__
    assert site.low.tolist() == (pre <= low).sum(0).tolist()
    assert site.high.tolist() == (pre >= high).sum(0).tolist()
    assert site.saturated.tolist() == ((pre <= low) | (pre >= high)).all(0).tolist()
    assert site.saturated[0]
    if kind is nn.ReLU6:
        assert site.silent.tolist() == (pre <= 0).all(0).tolist()
        assert not site.saturated[1]
    else:  # x <= 0 says nothing of a unit that is flat on both sides
        assert site.silent is None
        assert site.saturated[1]


@pytest.mark.parametrize("act", [nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(), nn.Hardsigmoid(), nn.ReLU6()])
def test_dead_is_saturated_without_gradient(act):
    """In float32 tanh(-1e3) has gradient 0, tanh(3) has not; both are within one hundredth of the end."""
    net = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.mul_(0.01)
        net[0].bias.copy_(torch.tensor([1e3, -1e3, 5.5, 0.1]))
    x, y = torch.randn(30, 3), torch.randn(30, 2)
    unknown = undying.census(net, [(x, y)])
    site = undying.census(net, [(x, y)], gradients=True)["1"]
    smooth = isinstance(act, nn.Tanh | nn.Sigmoid)
    if isinstance(act, nn.ReLU6):
        assert site.silent.tolist() == site.dead.tolist() == [False, True, False, False]
        assert site.saturated.tolist() == [True, False, False, False]
    else:
        assert unknown["1"].dead is None
        assert site.saturated.tolist() == [True, True, True, False]
        assert site.dead.tolist() == [True, True, not smooth, False]
        assert unknown.silent_fraction is None
    assert unknown.saturated_fraction == site.saturated.double().mean()
