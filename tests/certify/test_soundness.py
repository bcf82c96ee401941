"""Certificates against attack: no certified unit fires, in any type of number."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import undying
from certify.attack import ACTIVATIONS, Parallel, Residual, check, inputs_in, scatter_biases, within
from undying import Box, certify


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
            net[0].bias.copy_(
                torch.nextafter((-exact).to(torch.float64), torch.tensor(-torch.inf, dtype=torch.float64))
            )
        real = net[0](x.to(dtype))[0]
        site = certify(net, (x, x)).sites[0]
        assert (real.double() <= site.upper).all()
        assert (real.double() >= site.lower).all()
        fired += int((real > 0).sum())
        assert not site.dead[real > 0].any()
    assert fired > 0
