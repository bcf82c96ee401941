"""Bounds against hand calculation, brute force and planted units."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from certify.attack import Parallel, Residual, bias_at, check
from undying import Box, certify

INF = math.inf


def exact(values):
    return pytest.approx(values, rel=1e-5, abs=1e-30)


def test_a_linear_layer_gives_the_best_corner():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
    low, high = -torch.rand(1, 6), torch.rand(1, 6)
    site = certify(net, (low, high)).sites[0]
    corners = torch.stack(
        [torch.where(torch.tensor(c), high[0], low[0]) for c in itertools.product([True, False], repeat=6)]
    )
    values = F.linear(corners.double(), net[0].weight.double(), net[0].bias.double())
    assert site.upper.tolist() == pytest.approx(values.amax(0).tolist(), abs=4e-6)
    assert site.lower.tolist() == pytest.approx(values.amin(0).tolist(), abs=4e-6)
    assert (site.upper > values.amax(0)).all()


def test_two_layers_by_hand():
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-2.0]]))
        net[0].bias.copy_(torch.tensor([0.0, 1.0]))
        net[2].weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]))
        net[2].bias.copy_(torch.tensor([-6.0, 0.0, 4.0]))
    certificate = certify(net, (torch.tensor([[-1.0]]), torch.tensor([[2.0]])))
    # x in [-1, 2]: first layer [-1, 2] and [-3, 3]; behind ReLU [0, 2] and [0, 3]
    assert certificate["1"].lower.tolist() == exact([-1, -3])
    assert certificate["1"].upper.tolist() == exact([2, 3])
    assert certificate["3"].lower.tolist() == exact([-6, -5, 1])
    assert certificate["3"].upper.tolist() == exact([-1, 0, 6])
    assert certificate["3"].dead.tolist() == [True, True, False]
    assert certificate["3"].always_on.tolist() == [False, False, True]
    assert certificate.dead_units == 2


def test_a_row_of_zeros_has_no_margin():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        net[2].bias[1] = 1e-30
    certificate = certify(net, (torch.full((1, 3), -1e30), torch.full((1, 3), 1e30)))
    assert certificate["1"].upper.tolist() == certificate["1"].lower.tolist() == [0, 0]
    assert certificate["3"].dead.tolist() == [True, False]


def test_non_negative_inputs_without_a_box():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, -2, -3], [-1, 0, 0], [0, 0, 0], [-1, 2, -3]]))
        net[0].bias.copy_(torch.tensor([-1.0, 0, 0, -1e6]))
        net[2].weight.copy_(torch.tensor([[5.0, 5, 5, 0], [1, 1, 1, 1]]))
        net[2].bias.copy_(torch.tensor([-1.0, 0.0]))
    certificate = certify(net, Box.nonnegative((1, 3)))
    assert certificate["1"].dead.tolist() == [True, True, True, False]
    assert certificate["1"].upper.tolist() == [exact(-1), 0, 0, INF]
    assert certificate["1"].lower.tolist() == [-INF, -INF, 0, -INF]
    assert certificate["3"].dead.tolist() == [True, False]
    again = certify(net, (torch.zeros(1, 3), torch.full((1, 3), INF)))
    assert again["3"].upper.tolist() == certificate["3"].upper.tolist()


def test_non_negative_inputs_of_a_convolution():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(-net[0].weight.abs())
        net[0].weight[2] *= -1
        net[0].bias.fill_(-0.5)
    assert certify(net, Box.nonnegative((1, 2, 5, 5)))["2"].dead.tolist() == [True, True, False]


def test_what_overflows_in_the_network_is_not_bounded_by_real_numbers():
    """3e38 + 3e38 - 9e38 is -3e38, and infinite where it is summed from the left."""
    net = nn.Sequential(nn.Linear(3, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 1.0, -3.0]]))
    x = torch.full((1, 3), 3e38)
    site = certify(net, (x, x)).sites[0]
    assert site.upper.tolist() == [INF]
    half = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU()).half()
    with torch.no_grad():
        half[0].weight.fill_(1.0)
    assert certify(half, (torch.full((1, 2), 6e4), torch.full((1, 2), 6e4))).sites[0].upper.tolist() == [INF]


CURVES = {
    "relu": F.relu, "relu6": F.relu6, "leaky": lambda x: F.leaky_relu(x, 0.1), "leaky, falling": lambda x: F.leaky_relu(x, -0.5),
    "elu": F.elu, "elu, alpha": lambda x: F.elu(x, 2.5), "selu": F.selu, "celu": lambda x: F.celu(x, 0.7), "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "mish": F.mish, "softplus": F.softplus,
    "softplus, early": lambda x: F.softplus(x, 2.0, 1.0), "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
    "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.7), "sigmoid": torch.sigmoid, "tanh": torch.tanh, "abs": torch.abs,
    "square": torch.square, "power": lambda x: x**2, "clamp": lambda x: x.clamp(-0.5, 0.25), "clamp_min": lambda x: x.clamp_min(0.1),
    "neg": torch.neg, "rrelu": F.rrelu, "prelu": lambda x: F.prelu(x, x.new_tensor([-0.4])), "times": lambda x: -0.3 * x,
    "divided": lambda x: x / -0.7, "from": lambda x: 0.3 - x, "plus": lambda x: torch.add(x, x, alpha=-0.5),
    "product": lambda x: x * torch.sigmoid(x), "quotient": lambda x: x / (1 + x.abs()), "inverse": lambda x: 1 / (0.1 + x * x),
    "maximum": lambda x: torch.maximum(x, -x), "where": lambda x: torch.where(x > 0.2, x, -2 * x), "root": lambda x: x.abs().sqrt(),
    "bsilu": undying.BSiLU(), "nelu": undying.NeLU(), "barelu": lambda x: undying.barelu(x, 0.02, 0.3),
}  # fmt: skip


class Curve(nn.Module):
    """relu(f(x)), each element its own unit."""

    def __init__(self, function):
        super().__init__()
        self.function, self.act = function, nn.ReLU()

    def forward(self, x):
        return self.act(self.function(x))


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_bounded_over_every_kind_of_interval(name):
    ends = torch.tensor(
        [-1e30, -60.0, -8.0, -3.0, -2.0, -1.5, -1.0, -0.75, -0.1, -1e-20, 0.0, 1e-7, 0.2, 0.6, 1.1, 3.0, 25.0, 1e30]
    )
    pairs = torch.combinations(ends, 2, with_replacement=True)
    low, high = pairs[None, :, 0], pairs[None, :, 1]
    site = certify(Curve(CURVES[name]), (low, high))["act"]
    steps = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    for dtype in (torch.float32, torch.float64):
        x = (low.double() + steps * (high.double() - low.double())).to(dtype)
        values = CURVES[name](torch.minimum(torch.maximum(x, low.to(dtype)), high.to(dtype))).double()
        assert (values <= site.upper).all()
        assert (values >= site.lower).all()
        if name in ("relu", "gelu", "gelu tanh", "silu", "mish", "hardswish", "tanh", "sigmoid", "elu", "square"):
            moderate = (low.abs() < 100)[0] & (high.abs() < 100)[0]
            gap = torch.maximum(site.upper - values.amax(0), values.amin(0) - site.lower)[moderate]
            assert gap.max() < 3e-3  # the grid's own coarseness included: tight


# --- planted units ------------------------------------------------------------------------------------------------


def planted(make, unit_site, shape=(1, 2, 8, 8)):
    torch.manual_seed(0)
    net = make()
    certificate = check(net, Box(torch.zeros(shape), torch.ones(shape)))
    return certificate[unit_site].dead.nonzero().flatten().tolist()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_planted_in_convolutions(n, transposed):
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{n}d")
    assert planted(lambda: nn.Sequential(bias_at(kind(2, 5, 3, stride=2), 1, 4), nn.ReLU()), "1", (1, 2, *[7] * n)) == [
        1,
        4,
    ]


def test_planted_in_linear_batch_norm_residual_cat_pool_and_flatten():
    assert planted(lambda: nn.Sequential(bias_at(nn.Linear(4, 6), 0, 5), undying.SUGAR()), "1", (1, 4)) == [0, 5]
    norm = lambda: nn.Sequential(nn.Conv2d(2, 4, 3), bias_at(nn.BatchNorm2d(4), 2), nn.ReLU())  # noqa: E731
    assert planted(norm, "2") == [2]

    def residual():
        block = Residual(2, nn.ReLU())
        bias_at(block.conv, 1)
        return nn.Sequential(block)

    assert planted(residual, "0.act") == [1]
    assert planted(residual, "0.last") == []  # x itself still comes through

    def parallel():
        block = Parallel(2, nn.ReLU())
        bias_at(block.one, 1)
        with torch.no_grad():
            block.two.bias.copy_(torch.tensor([1e6, -10.0]))  # come in negated
        return nn.Sequential(block)

    assert planted(parallel, "0.act") == [1, 3]

    def pooled():
        return nn.Sequential(
            bias_at(nn.Conv2d(2, 3, 3), 0), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3), nn.Flatten(), bias_at(nn.Linear(3, 4), 3),
            nn.ReLU(),
        )  # fmt: skip

    assert planted(pooled, "1") == [0]
    assert planted(pooled, "6") == [3]


def test_impossible_by_its_weights():
    """Behind a ReLU nothing is negative; a unit with negative weights alone cannot fire, a bias of 0 included."""

    def make():
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU())
        with torch.no_grad():
            net[2].weight[1] = -net[2].weight[1].abs()
            net[2].bias.copy_(torch.tensor([1.0, 0.0, 1.0]))
        return net

    assert planted(make, "3", (1, 4)) == [1]
