"""The census of whole drawn networks against hooks and a count that knows each activation's unit axis."""

import math

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import undying
from undying.activations.known import FACTS, ends

MAKE = {
    nn.PReLU: lambda: nn.PReLU(init=0.1),
    nn.Hardtanh: lambda: nn.Hardtanh(-0.5, 0.8),
}
IN_PLACE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardtanh)


def activation(draw):
    kind = draw(st.sampled_from(list(FACTS)))
    if kind in IN_PLACE and draw(st.booleans()):
        return kind(inplace=True)
    return MAKE.get(kind, kind)()


class Residual(nn.Module):
    def __init__(self, inner, act, join):
        super().__init__()
        self.inner, self.act, self.join = inner, act, join

    def forward(self, x):
        y = self.inner(x)
        return self.act(x * 0.5 + y if self.join == "add" else torch.cat([x, y], 1))


class Rows(nn.Module):
    """(N, C, L) as tokens (N, L, C) for what is inside, and back."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(1, 2)).mT


class Drawn:
    """A network over (N, C, L) maps, drawn block by block, with each activation's unit axis and its planted units."""

    def __init__(self, draw):
        self.draw, self.width, self.length = draw, draw(st.integers(1, 5)), draw(st.integers(2, 6))
        self.shape = (self.width, self.length)
        self.axis, self.flat = {}, {}
        self.planted = {}
        blocks = [self.conv, self.conv, self.tokens, self.residual, self.join, self.pool, self.dropout]
        layers = [layer for _ in range(draw(st.integers(1, 4))) for layer in draw(st.sampled_from(blocks))()]
        layers += draw(st.sampled_from([self.flattened, self.averaged]))()
        self.net = nn.Sequential(*layers, nn.Linear(4, 3))

    def site(self, axis, planted=(), places=None):
        act = activation(self.draw)
        self.axis[act], self.planted[act], self.flat[act] = axis, planted, places
        return act

    def faults(self, bias):
        units = self.draw(st.sets(st.integers(0, len(bias) - 1), max_size=2))
        with torch.no_grad():
            bias[list(units)] = -1e6
        return units

    def convolution(self, width):
        kind = self.draw(st.sampled_from(["plain", "transposed", "grouped"]))
        if kind == "grouped" and width % self.width == 0:
            return nn.Conv1d(self.width, width, 3, padding=1, groups=self.width)
        return (nn.ConvTranspose1d if kind == "transposed" else nn.Conv1d)(self.width, width, 3, padding=1)

    def conv(self):
        width = self.draw(st.sampled_from([1, 2, 4, 6]))
        layers, self.width = [self.convolution(width)], width
        norms = [None, nn.BatchNorm1d, lambda c: nn.GroupNorm(1, c)]
        # torch refuses groups of a single value.
        norm = self.draw(st.sampled_from(norms if width * self.length > 1 else norms[:2]))
        layers += [] if norm is None else [norm(width)]
        return [*layers, self.site(1, self.faults(layers[-1].bias))]

    def tokens(self):
        width = self.draw(st.sampled_from([1, 3, 4]))
        layers, self.width = [nn.Linear(self.width, width)], width
        layers += [nn.LayerNorm(width)] if self.draw(st.booleans()) else []
        return [Rows(nn.Sequential(*layers, self.site(2, self.faults(layers[-1].bias))))]

    def residual(self):
        inner = self.convolution(self.width)
        faults = self.faults(inner.bias)
        return [Residual(inner, self.site(1, faults), "add")]

    def join(self):
        inner, width = self.convolution(2), self.width
        faults = {width + u for u in self.faults(inner.bias)}
        self.width += 2
        return [Residual(inner, self.site(1, faults), "cat")]

    def pool(self):
        if self.length < 2:
            return []
        self.length //= 2
        return [self.draw(st.sampled_from([nn.MaxPool1d, nn.AvgPool1d]))(2)]

    def dropout(self):
        return [nn.Dropout(0.5), nn.Identity()]

    def flattened(self):
        """A site on flattened maps: the units are the channels still."""
        conv = nn.Conv1d(self.width, 2, 1)
        places = self.length
        act = self.site(1, self.faults(conv.bias), places)
        return [conv, nn.Flatten(), act, nn.Linear(2 * places, 4)]

    def averaged(self):
        linear = nn.Linear(self.width, 4)
        return [nn.AdaptiveAvgPool1d(1), nn.Flatten(), linear, self.site(1, self.faults(linear.bias))]


def columns(x, axis, places):
    """The values of each unit, one unit at a time."""
    if places is not None:  # (N, C * places)
        return [x[:, u * places : (u + 1) * places].flatten() for u in range(x.shape[1] // places)]
    return [x.select(axis, u).flatten() for u in range(x.shape[axis])]


@settings(max_examples=150)
@given(data=st.data())
def test_drawn_networks(data):
    torch.manual_seed(data.draw(st.integers(0, 10_000)))
    drawn = Drawn(data.draw)
    net = drawn.net.eval()
    n = data.draw(st.integers(1, 9))
    x, y = torch.randn(n, *drawn.shape), torch.randn(n, 3)
    batches = list(zip(x.split(size := data.draw(st.integers(1, 9))), y.split(size), strict=True))
    before, after = {}, {}
    with torch.no_grad():
        handles = []
        for act in drawn.axis:
            handles.append(act.register_forward_pre_hook(lambda m, args: before.__setitem__(m, args[0].clone())))
            handles.append(act.register_forward_hook(lambda m, _, h: after.__setitem__(m, h.clone())))
        pre, post = {a: [] for a in drawn.axis}, {a: [] for a in drawn.axis}
        for part, _ in batches:  # in the same batches, since rounding depends on them
            net(part)
            for act in drawn.axis:
                pre[act].append(before[act])
                post[act].append(after[act])
        for handle in handles:
            handle.remove()
    result = undying.census(net, batches, gradients=data.draw(st.booleans()))
    names = {module: name for name, module in net.named_modules()}
    assert {s.name for s in result.sites} == {names[act] for act in drawn.axis}
    assert not result.ambiguous
    for act, axis in drawn.axis.items():
        site = result[names[act]]
        event(type(act).__name__)
        x, h = (columns(torch.cat(v[act]), axis, drawn.flat[act]) for v in (pre, post))
        assert (site.units, site.values) == (len(x), len(x[0]))
        assert site.fired.tolist() == [sum(v > 0 for v in c.tolist()) for c in x]
        assert site.peak.tolist() == [max(c.tolist()) for c in x]
        assert site.zero.tolist() == [sum(v == 0 for v in c.tolist()) / len(c) for c in h]
        means = [math.fsum(abs(v) for v in c.tolist()) / len(c) for c in h]
        assert site.mean_abs.tolist() == pytest.approx(means, rel=1e-12, abs=1e-300)
        bounds = ends(type(act), act, (), {})
        two_sided = bounds is not None and math.isfinite(bounds[0])
        silent = [all(v <= 0 for v in c.tolist()) for c in x]
        assert site.silent is None if two_sided else site.silent.tolist() == silent
        assert all(silent[u] for u in drawn.planted[act])
        if bounds is not None:
            low, high = torch.tensor(bounds).tolist()
            at_an_end = [all(v <= low or v >= high for v in c.tolist()) for c in x]
            assert site.saturated.tolist() == at_an_end


# --- the same, where it is easy to count too much or too little ---------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x):
        return self.b(checkpoint(lambda v: self.act(self.a(v)).relu(), x, use_reentrant=False))


def test_a_forward_that_checkpointing_computes_again_is_not_counted_again():
    net, x, y = Checkpointed(), torch.randn(9, 4), torch.randn(9, 2)
    with torch.no_grad():
        net.a.bias[2] = -1e6
        net.b.weight[:, 3] = 0
    result = undying.census(net, [(x, y)], gradients=True)
    assert [(s.name, s.samples) for s in result.sites] == [("act", 9), ("relu", 9)]
    assert result["act"].fired.tolist() == (net.a(x) > 0).sum(0).tolist()
    assert result["act"].dead[2]


class Frozen(nn.Module):
    """A trunk under no_grad, as in linear probing."""

    def __init__(self):
        super().__init__()
        self.a, self.trunk, self.b, self.act = nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2), nn.GELU()

    def forward(self, x):
        with torch.no_grad():
            h = self.trunk(self.a(x))
        return self.act(self.b(h))


def test_no_gradient_reaches_a_part_under_no_grad():
    net, x = Frozen(), torch.randn(9, 4)
    with torch.no_grad():
        net.a.bias[2] = net.b.bias[1] = -1.0
        net.a.weight[2] = net.b.weight[1] = 0.0
    result = undying.census(net, [(x, torch.randn(9, 2))], gradients=True)
    assert result["trunk"].dead.nonzero().flatten().tolist() == result["trunk"].silent.nonzero().flatten().tolist()
    assert result["trunk"].dead[2]
    assert result["act"].silent[1]
    assert not result["act"].dead[1]  # GELU has a slope at -1


# --- what tools in public use get wrong ---------------------------------------------------------------------------------


def test_69_percent_zeros_are_not_69_percent_dead_units():
    """A tool that counts zero elements reports dead units in a network whose units all fire."""
    net = nn.Sequential(nn.Linear(1, 1000), nn.ReLU())
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.copy_(-torch.linspace(0.39, 0.99, 1000))
    result = undying.census(net, torch.linspace(0, 1, 101)[:, None])
    assert result.sparsity == pytest.approx(0.69, abs=0.01)
    assert result.silent_fraction == result.dead_fraction == 0
    assert (result["1"].fired > 0).all()


def test_the_width_of_images_is_not_their_number_of_units():
    """A tool that takes the last axis sees 32 units here, and finds none of the faults."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        net[0].bias.fill_(5.0)
        net[0].bias[:4] = -1e6
    (site,) = undying.census(net, torch.rand(2, 3, 32, 32)).sites
    assert (site.units, site.samples, site.values) == (16, 2, 2 * 32 * 32)
    assert site.silent.tolist() == [True] * 4 + [False] * 12


@pytest.mark.parametrize("gradients", [False, True])
def test_a_layer_with_30_of_64_biases_at_minus_a_million_does_not_pass(gradients):
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    planted = torch.randperm(64)[:30].sort()[0].tolist()
    with torch.no_grad():
        net[0].bias[planted] = -1e6
    result = undying.census(net, [(torch.randn(500, 20), torch.randint(0, 5, (500,)))], gradients=gradients)
    assert result["1"].silent.nonzero().flatten().tolist() == planted
    assert result["1"].dead.nonzero().flatten().tolist() == planted
    assert result.silent_fraction == 30 / 64


def test_a_library_s_own_activation_is_one_site_whatever_it_computes_with():
    from transformers import GPT2Config, GPT2Model

    net = GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=10, n_positions=6))
    with torch.no_grad():
        net.h[0].mlp.c_fc.bias[3] = -1e6
    result = undying.census(net, {"input_ids": torch.randint(10, (4, 6))})
    assert [(site.name, site.kind, site.units) for site in result.sites] == [("h.0.mlp.act", "NewGELUActivation", 32)]
    assert result["h.0.mlp.act"].silent.nonzero().flatten().tolist() == [3]


class Asking(nn.Module):
    """Goes by what it asks of its input: number of axes, length and type."""

    def __init__(self):
        super().__init__()
        self.conv, self.w, self.act = nn.Conv2d(3, 5, 1), nn.Parameter(torch.randn(3, 5)), nn.ReLU()
        self.seen = {"conv": [], "w": []}

    def forward(self, x):
        layer = "conv" if x.dim() == 4 else "w"
        h = self.conv(x) if layer == "conv" else x @ self.w
        if len(h) > 4:
            h = h.double()
        elif h.shape[-1] == 1 and h.ndim == 4:
            h = h.flatten(2).transpose(1, 2)
        unit = h.dim() - 1 if layer == "w" or h.dim() == 3 else 1
        self.seen[layer].append(h.detach().movedim(unit, -1).reshape(-1, 5).double())
        return self.act(h)


def test_batches_of_other_shapes_types_and_paths_are_counted_by_unit():
    shapes = [(2, 3, 4, 4), (2, 3, 4, 4), (2, 7, 3), (6, 3, 2, 2), (3, 3, 4, 1), (6, 1, 3), (2, 7, 3), (2, 3, 4, 4)]
    net = Asking()
    found = undying.census(net, [torch.randn(shape) for shape in shapes])
    assert {site.layer for site in found.sites} == {"conv", "w"}
    for site in found.sites:
        x = torch.cat(net.seen[site.layer])
        assert site.values == len(x)
        assert torch.equal(site.fired, (x > 0).sum(0))
        torch.testing.assert_close(site.peak, x.amax(0), rtol=0, atol=0)
        torch.testing.assert_close(site.mean_abs, x.relu().mean(0), rtol=1e-12, atol=0)
