"""Certificates against attack, hand calculation and the census."""

import copy
import itertools
import json
import math
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.certify.interpreter import Box, Certificate, certify

INF = math.inf


# --- an independent forward pass ----------------------------------------------------------------------------------


def pre_activations(net, x, kinds=(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, undying.SUGAR, undying.BAReLU)):
    """{site: input of each activation module's call}, gathered by plain hooks."""
    seen, counts, handles = {}, {}, []

    def hook(name):
        def record(_, args):
            counts[name] = counts.get(name, 0) + 1
            seen[name if counts[name] == 1 else f"{name}#{counts[name]}"] = args[0].clone()

        return record

    for name, module in net.named_modules():
        if isinstance(module, kinds):
            handles.append(module.register_forward_pre_hook(hook(name)))
    net(x)
    for handle in handles:
        handle.remove()
    return seen


def by_unit(x):
    """(samples and positions, units) of an (N, C, ...) tensor."""
    return x.movedim(1, -1).flatten(0, -2)


def inputs_in(box, generator, n=64):
    """Random points, random corners, and points with a few coordinates at an end."""
    low, high = box.low.clamp(min=-1e4), box.high.clamp(max=1e4)
    u = torch.rand(n, *low.shape[1:], generator=generator, dtype=torch.float64)
    corners = (torch.rand(u.shape, generator=generator) < 0.5).double()
    mixed = torch.where(torch.rand(u.shape, generator=generator) < 0.5, corners, u)
    return low + torch.cat([u, corners, mixed, torch.zeros_like(u[:1]), torch.ones_like(u[:1])]) * (high - low)


def within(box, x, dtype):
    """``x`` in the network's type, and still in the box."""
    low, high = box.low.to(dtype), box.high.to(dtype)
    assert torch.equal(low.double(), box.low)
    assert torch.equal(high.double(), box.high)
    return torch.minimum(torch.maximum(x.to(dtype), low), high)


def ascend(net, box, site, units, starts, steps=8):
    """Projected sign-gradient ascent, in float64, on the largest value of each unit, from each start."""
    width = box.high - box.low
    x = starts.repeat_interleave(len(units), 0)
    targets = units.repeat(len(starts))
    for i in range(steps):
        x = x.detach().requires_grad_()
        values = pre_activations(net, x)[site]
        peaks = values.movedim(1, -1).flatten(1, -2).amax(1) if values.dim() > 2 else values
        (gradient,) = torch.autograd.grad(peaks[torch.arange(len(x)), targets].sum(), x)
        x = torch.minimum(torch.maximum(x + width * gradient.sign() * 0.7 / (1 + i), box.low), box.high)
    return x.detach()


def check(net, box, seed=0, dtypes=(torch.float32, torch.float64)):
    """The certificate of a network, after an attack on it."""
    net.eval()
    certificate = certify(net, box)
    assert all(site.reached for site in certificate.sites)
    generator = torch.Generator().manual_seed(seed)
    batches = [inputs_in(box, generator)]
    wide = copy.deepcopy(net).double()
    for site in certificate.sites:
        units = site.dead.nonzero().flatten()[:6]
        if len(units):
            batches.append(ascend(wide, box, site.name, units, batches[0][[0, 70]]))
    for dtype in dtypes:
        seen = pre_activations(copy.deepcopy(net).to(dtype), within(box, torch.cat(batches), dtype))
        assert seen.keys() == {site.name for site in certificate.sites}
        for site in certificate.sites:
            values = by_unit(seen[site.name]).double()
            assert (values[:, site.dead] <= 0).all(), site.name
            assert (values <= site.upper).all(), site.name
            assert (values >= site.lower).all(), site.name
    # What fires at the centre is not certified, whatever the bounds.
    centre = within(box, (box.low.clamp(-1e4) + box.high.clamp(max=1e4)) / 2, torch.float32)
    for name, value in pre_activations(copy.deepcopy(net).float(), centre).items():
        assert not (certificate[name].dead & (by_unit(value) > 0).any(0)).any()
    return certificate


def scatter_biases(net, generator):
    """Spread the biases, so that some units cannot fire, some barely and some always do."""
    with torch.no_grad():
        for module in net.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 2)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.1)
                if module.affine:
                    module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
    return net.eval()


ACTIVATIONS = [nn.ReLU, undying.SUGAR, nn.ReLU6, undying.BAReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.SiLU]


class Residual(nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.conv, self.act, self.last = nn.Conv2d(width, width, 3, padding=1), act, type(act)()

    def forward(self, x):
        return self.last(self.act(self.conv(x)) + x)


class Parallel(nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.one, self.two, self.act = nn.Conv2d(width, 3, 1), nn.ConvTranspose2d(width, 2, 3, padding=1), act

    def forward(self, x):
        return self.act(torch.cat([self.one(x), -self.two(x)], 1))


@st.composite
def networks(draw):
    """(network, box): a few random layers of every kind on 2 x 6 x 6 inputs, or on 5 numbers."""
    seed = draw(st.integers(0, 2**31))
    torch.manual_seed(seed)
    act = lambda: draw(st.sampled_from(ACTIVATIONS))()  # noqa: E731
    low = draw(st.sampled_from([0.0, -1.0, -4.0, 0.5]))
    width = draw(st.sampled_from([0.0, 0.25, 1.0, 8.0]))
    if draw(st.booleans()):
        sizes = [5, *draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))]
        layers = []
        for n, m in itertools.pairwise(sizes):
            layers += [nn.Linear(n, m), *([nn.BatchNorm1d(m)] if draw(st.booleans()) else []), act()]
        shape = (1, 5)
    else:
        channels, shape, layers = 2, (1, 2, 6, 6), []
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(
                st.sampled_from(["conv", "grouped", "transposed", "norm", "max", "avg", "residual", "parallel"])
            )
            if kind in ("conv", "transposed"):
                layer = nn.Conv2d if kind == "conv" else nn.ConvTranspose2d
                layers += [layer(channels, 4, 3, padding=1, bias=draw(st.booleans())), act()]
                channels = 4
            elif kind == "grouped":
                layers += [nn.Conv2d(channels, 2 * channels, 3, padding=2, dilation=2, groups=channels), act()]
                channels *= 2
            elif kind == "norm":
                layers += [nn.BatchNorm2d(channels, affine=draw(st.booleans())), act()]
            elif kind == "residual":
                layers += [Residual(channels, act())]
            elif kind == "parallel":
                layers += [Parallel(channels, act())]
                channels = 5
            else:
                layers += [nn.MaxPool2d(2, 1, 1) if kind == "max" else nn.AvgPool2d(2, 1)]
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(4 * channels, 6), act()]
    net = scatter_biases(nn.Sequential(*layers), torch.Generator().manual_seed(seed))
    return net, Box(torch.full(shape, low), torch.full(shape, low + width)), seed


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(networks())
def test_no_attack_fires_a_certified_unit_of_a_random_network(drawn):
    net, box, seed = drawn
    certificate = check(net, box, seed)
    data = within(box, inputs_in(box, torch.Generator().manual_seed(seed), 8), torch.float32)
    counted = undying.census(net, data)
    assert [(s.name, s.kind, s.units) for s in counted.sites] == [(s.name, s.kind, s.units) for s in certificate.sites]
    for site in counted.sites:
        assert site.silent[certificate[site.name].dead].all()
        assert not (site.silent & certificate[site.name].always_on).any()


def test_the_attacks_met_certified_units():
    """Else the test above would say nothing."""
    generator = torch.Generator().manual_seed(0)
    certified = 0
    for seed in range(5):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 8), nn.ReLU())
        certified += check(
            scatter_biases(net, generator), Box(torch.zeros(1, 1, 6, 6), torch.ones(1, 1, 6, 6))
        ).dead_units
    assert certified >= 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_of_number(dtype):
    generator = torch.Generator().manual_seed(1)
    certified = 0
    for seed in range(6):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 4, 2), nn.GELU(),
            nn.Flatten(), nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.SiLU(),
        )  # fmt: skip
        net = scatter_biases(net, generator).to(dtype)
        box = Box(torch.full((1, 2, 6, 6), -0.5), torch.full((1, 2, 6, 6), 0.5))
        certificate = check(net, box, seed, (dtype, torch.float64))
        assert certificate.dtype == str(dtype).removeprefix("torch.")
        certified += certificate.dead_units
    assert certified > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_of_the_network_itself_is_in_the_margin(dtype):
    """A long sum that is 0 in real numbers, and is not as the network computes it."""
    n, fired = 4096, 0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        net = nn.Sequential(nn.Linear(n, 16, bias=True), nn.ReLU())
        x = torch.rand(1, n, generator=generator).to(dtype).double()
        with torch.no_grad():
            net[0].weight.copy_(torch.randn(16, n, generator=generator))
            net.to(dtype)
            exact = net[0].weight.double() @ x[0]
            net[0].bias.copy_(torch.nextafter((-exact).to(torch.float64), torch.tensor(-INF, dtype=torch.float64)))
        real = net[0](x.to(dtype))[0]
        site = certify(net, (x, x)).sites[0]
        assert (real.double() <= site.upper).all()
        assert (real.double() >= site.lower).all()
        fired += int((real > 0).sum())
        assert not site.dead[real > 0].any()
    assert fired > 0


# --- by hand ------------------------------------------------------------------------------------------------------


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


def bias_at(module, *units):
    """Make some units impossible, and let the others fire."""
    with torch.no_grad():
        module.bias.fill_(10.0)
        module.bias[list(units)] = -1e6
    return module


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


# --- names, axes, places where it ends ----------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(3, 5), nn.Linear(5, 7), nn.ReLU(inplace=True)
        self.alias = self.act

    def forward(self, x):
        return F.relu(self.alias(self.b(self.act(self.a(x)))) - 1).relu_()


def test_names_are_those_of_the_census():
    for net in (Twice(), nn.Sequential(Twice(), nn.Flatten()), nn.ReLU()):
        certificate = certify(net, Box(torch.zeros(1, 3), torch.ones(1, 3)))
        counted = undying.census(net, torch.rand(9, 3))
        assert [(s.name, s.kind, s.units) for s in certificate.sites] == [
            (s.name, s.kind, s.units) for s in counted.sites
        ]


def test_units_on_the_last_axis_and_moved_ones():
    class Moved(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lin = bias_at(nn.Conv2d(2, 4, 1), 3), bias_at(nn.Linear(4, 6), 2)
            self.act, self.act2, self.act3, self.act4 = (nn.ReLU() for _ in range(4))

        def forward(self, x):
            x = self.act(self.conv(x).permute(0, 2, 3, 1))  # units last
            tokens = self.lin(x).flatten(1, 2)
            return self.act2(tokens), self.act3(tokens.transpose(1, 2)), self.act4(tokens.unsqueeze(0)[..., 1:4])

    certificate = certify(Moved(), Box(torch.zeros(1, 2, 3, 5), torch.ones(1, 2, 3, 5)))
    assert [site.units for site in certificate.sites] == [4, 6, 6, 3]
    assert [site.dead.nonzero().flatten().tolist() for site in certificate.sites] == [[3], [2], [2], [1]]


class Forward(nn.Module):
    """A forward written in the test, after a layer with units 1 and 4 that cannot fire; ``act`` is the site."""

    def __init__(self, layer, forward):
        super().__init__()
        self.layer, self.run, self.act = bias_at(layer, 1, 4), forward, nn.ReLU()

    def forward(self, x):
        return self.run(self, x)


SHAPES = {
    "flattened": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x).flatten(1)), [1, 4]),
    "flattened, channels last": (
        nn.Conv2d(2, 6, 3),
        lambda m, x: m.act(m.layer(x).permute(0, 2, 3, 1).flatten(1)),
        [1, 4],
    ),
    "tokens of a map": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x).flatten(2).transpose(1, 2)), [1, 4]),
    "transposed": (nn.Linear(6, 6), lambda m, x: m.act(m.layer(x).mT), [1, 4]),
    "heads": (nn.Linear(6, 6), lambda m, x: m.act(m.layer(x).unflatten(-1, (2, 3)).transpose(1, 2)), [1, 4]),
    "heads last": (nn.Linear(6, 6), lambda m, x: m.act(m.layer(x).unflatten(-1, (2, 3)).mT), [2, 3]),
    "channel shuffle": (
        nn.Conv2d(2, 6, 3),
        lambda m, x: m.act(m.layer(x).unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)),
        [2, 3],
    ),
    "half of the channels": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x).chunk(2, 1)[1]), [1]),
    "joined": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(torch.cat([x[:, :, 1:-1, 1:-1], m.layer(x)], 1)), [3, 6]),
    "pooled and flattened": (
        nn.Conv2d(2, 6, 3),
        lambda m, x: m.act(F.avg_pool2d(m.layer(x), 2).flatten(1)),
        [1, 4],
    ),
    "one place": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x)[:, :, 0, 1]), [1, 4]),
}


def test_a_parameter_on_the_left_has_its_units_before_the_last_axis():
    class Left(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.act = nn.Parameter(torch.randn(4, 5)), nn.ReLU()

        def forward(self, x):
            return self.act(self.w @ x)

    for shape in ((1, 5, 7), (5, 7)):
        (site,) = certify(Left(), Box(-torch.ones(shape), torch.ones(shape))).sites
        assert site.units == undying.census(Left(), torch.randn(shape)).sites[0].units == 4


@pytest.mark.parametrize("name", SHAPES)
def test_its_units_are_those_of_the_census(name):
    layer, forward, planted = SHAPES[name]
    net = Forward(layer, forward).eval()
    box = Box(-torch.ones(1, 2, 6, 6), torch.ones(1, 2, 6, 6))
    x = torch.rand(50, 2, 6, 6) * 2 - 1
    (site,), (counted,) = certify(net, box).sites, undying.census(net, x).sites
    assert site.units == counted.units
    assert site.dead.nonzero().flatten().tolist() == planted
    assert counted.silent[planted].all()
    assert not (site.dead & (counted.fired > 0)).any()
    assert (site.upper >= counted.peak).all()


def test_ambiguous_axes_are_refused_and_can_be_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(x.unflatten(1, (2, 3)))

    box = Box(torch.zeros(1, 6), torch.ones(1, 6))
    with pytest.raises(ValueError, match=r"'act'.*axes="):
        certify(Odd(), box)
    assert certify(Odd(), box, axes={"act": 1})["act"].units == 2
    with pytest.raises(ValueError, match="axes gives 7"):
        certify(Odd(), box, axes={"act": 7})
    with pytest.raises(ValueError, match=r"axes names \['nope'\].*sites: act"):
        certify(Odd(), box, axes={"act": 1, "nope": 0})


class Ends(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.a, self.act, self.b, self.act2, self.step = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), step

    def forward(self, x):
        x = self.act(self.a(x))
        return self.act2(self.b(self.step(x)))


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x[None], x[None], x[None])[0]


@pytest.mark.parametrize(
    ("step", "stopped"),
    [
        (lambda x: torch.sort(x)[0], "Ends (sort)"),
        (Attention(), "step (scaled_dot_product_attention)"),
        (lambda x: x.softmax(-1), "Ends (softmax)"),
        (nn.LayerNorm(4), "step (layer_norm)"),
        (nn.BatchNorm1d(4, track_running_stats=False), "step (batch_norm)"),
        (lambda x: x @ x.t() @ x, "Ends (matmul)"),
        (lambda x: x + torch.rand(4), "Ends (rand)"),
        (lambda x: F.dropout(x, 0.5, True), "Ends (dropout)"),
        (lambda x: x + x.argmax(-1, keepdim=True), "Ends (add)"),
    ],
)
def test_an_operation_without_a_rule_ends_it_and_is_named(step, stopped):
    net = Ends(step)
    bias_at(net.a, 2)
    bias_at(net.b, 1)
    certificate = certify(net, Box(torch.zeros(2, 4), torch.ones(2, 4)))
    assert certificate.stopped == [stopped]
    assert certificate["act"].dead.nonzero().flatten().tolist() == [2]
    last = certificate["act2"]
    assert (last.reached, last.units, last.upper, last.lower, last.dead, last.always_on) == (False, *[None] * 5)
    assert "not reached" in certificate.table()
    assert stopped in certificate.covers


def test_writing_in_place_is_followed_or_ends_it():
    """The value before the ReLU is gone from every name of it; through another view it is not followed."""
    same = Ends(lambda x: (x.sub_(10.0), F.relu_(x), x)[-1])
    net_box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    with torch.no_grad():
        same.a.weight.abs_(), same.a.bias.fill_(3.0), same.b.weight.fill_(1.0), same.b.bias.fill_(-0.001)
    assert certify(same, net_box)["act2"].dead.all()

    class Through(Ends):
        def forward(self, x):
            x = self.act(self.a(x))
            x.view(-1).add_(100.0)
            return self.act2(self.b(x))

    through = Through(None)
    certificate = certify(through, net_box)
    assert certificate.stopped == ["Through (add_ through a view)"]
    assert not certificate["act2"].reached

    class Counting(Ends):
        def __init__(self):
            super().__init__(None)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.act(self.a(x) - self.calls)

    assert not certify(Counting(), net_box)["act"].reached


def test_what_cannot_be_traced_is_refused_with_a_way_out():
    class Decides(nn.Module):
        def forward(self, x):
            return F.relu(x) if x.sum() > 0 else x

    class Two(nn.Module):
        def forward(self, x, y):
            return F.relu(x + y)

    box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    with pytest.raises(UndyingError, match=r"cannot trace Decides.*torch\.where.*certify\(model\.features, box\)"):
        certify(Decides(), box)
    with pytest.raises(UndyingError, match=r"cannot trace Two.*one input"):
        certify(Two(), box)
    with pytest.raises(UndyingError, match=r"\(1, 4\)"):
        certify(nn.Linear(5, 2), box)


# --- boxes --------------------------------------------------------------------------------------------------------


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


def test_a_batch_of_any_size_is_covered():
    torch.manual_seed(0)
    net = scatter_biases(nn.Sequential(nn.Linear(3, 40), nn.ReLU()), torch.Generator().manual_seed(0))
    one = certify(net, Box(torch.zeros(1, 3), torch.ones(1, 3)))
    four = certify(net, Box(torch.zeros(4, 3), torch.ones(4, 3)))
    assert torch.equal(one["1"].upper, four["1"].upper)


# --- what is left behind, files -----------------------------------------------------------------------------------


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Dropout(), nn.Flatten(), nn.Linear(144, 3)
    ).train()
    net[3].eval()
    before, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    net[0].weight.grad = torch.ones_like(net[0].weight)
    state, py_state = torch.get_rng_state(), random.getstate()
    certify(net, Box(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)))
    assert torch.equal(state, torch.get_rng_state())
    assert py_state == random.getstate()
    assert flags == [m.training for m in net.modules()]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert torch.is_grad_enabled()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with pytest.raises(UndyingError):
        certify(net, Box(torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8)))
    assert flags == [m.training for m in net.modules()]


def some_certificate():
    torch.manual_seed(0)
    net = Ends(nn.LayerNorm(4))
    low = torch.tensor([[0.0, -INF, 0.1, 1.0]])
    return certify(net, (low, torch.tensor([[1.0, 2.0, INF, 1.0]])))


def test_files_hold_every_bit(tmp_path):
    path = tmp_path / "certificate.json"
    for certificate in (some_certificate(), certify(Twice(), Box.nonnegative((1, 3)))):
        certificate.save(path)
        again = Certificate.load(path)
        assert str(again) == str(certificate)
        assert again.to_dict() == certificate.to_dict()
        assert again.box == certificate.box
        assert [torch.equal(a.upper, b.upper) for a, b in zip(again.sites, certificate.sites, strict=True) if a.reached]
        assert [site.reached for site in again.sites] == [site.reached for site in certificate.sites]
    assert list(tmp_path.iterdir()) == [path]


def test_files_from_elsewhere_are_refused(tmp_path):
    path = tmp_path / "certificate.json"
    data = some_certificate().to_dict()
    for change, match in (
        ({"format": 2}, "format 2, and this undying reads up to 1: upgrade"),
        ({"kind": "census"}, "not a certificate"),
        ({"format": None}, "not a certificate"),
        ({"sites": [{}]}, "damaged"),
        ({"box": {"shape": [3], "low": [0.0, 1.0], "high": [1.0]}}, "damaged"),
    ):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(ValueError, match=f"certificate.json: .*{match}"):
            Certificate.load(path)
    for text in ("[]", "{", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"certificate\.json"):
            Certificate.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "certificate.json"
    certificate = some_certificate()
    certificate.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        certificate.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_table_and_words():
    certificate = some_certificate()
    assert str(certificate).splitlines()[0].split() == [
        "site",
        "kind",
        "units",
        "dead",
        "always",
        "on",
        "largest",
        "upper",
        "bound",
    ]
    for word in ("eval mode", "float32", "(1, 4) in [-inf, inf]", "It ends at step (layer_norm)"):
        assert word in certificate.covers
    with pytest.raises(KeyError, match="no site 'nope'; sites: act, act2"):
        certificate["nope"]


# --- torchvision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sites"), [("resnet18", 17), ("vgg16_bn", 15)])
def test_torchvision_networks_are_reached_to_the_end(name, sites):
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        net.get_submodule("bn1" if name == "resnet18" else "features.1").bias[[3, 60]] = -1e4
    certificate = certify(net, Box.of(x))
    assert certificate.stopped == []
    assert len(certificate.sites) == sites
    assert certificate.sites[0].dead.nonzero().flatten().tolist() == [3, 60]
    counted = undying.census(net, x)
    for site, seen in zip(certificate.sites, counted.sites, strict=True):
        assert (site.name, site.units) == (seen.name, seen.units)
        assert (seen.peak.double() <= site.upper).all()
        assert seen.silent[site.dead].all()
