"""The census against a brute-force count, and against planted faults."""

import copy
import dataclasses
import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import undying


def brute_force(x, axis):
    """(fired, peak, values a unit) of a pre-activation, one unit at a time."""
    columns = [x.select(axis, u).flatten().tolist() for u in range(x.shape[axis])]
    return [sum(v > 0 for v in c) for c in columns], [max(c) for c in columns], len(columns[0])


def plant(bias, units):
    with torch.no_grad():
        bias[list(units)] = -1e6


class Twice(nn.Module):
    """One activation module called twice, at different widths."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(3, 5), nn.Linear(5, 7), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.b(self.act(self.a(x))))


class Tokens(nn.Module):
    """(N, T, C): a linear layer puts its units last."""

    def __init__(self, act):
        super().__init__()
        self.lin, self.norm, self.act = nn.Linear(4, 6), nn.LayerNorm(6), act

    def forward(self, x):
        return self.act(self.norm(self.lin(x)) + 0.1)


class ChannelsLast(nn.Module):
    """A convolution's map permuted to (N, H, W, C), as in ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(x).permute(0, 2, 3, 1))


def network(kind):
    """(network, its bias-like tensor, unit axis, input)"""
    torch.manual_seed(0)
    if kind == "linear":
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        return net, net[0].bias, 1, torch.randn(30, 4)
    if kind == "conv1d":
        net = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU())
        return net, net[0].bias, 1, torch.randn(10, 3, 8)
    if kind == "conv2d":
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
        return net, net[0].bias, 1, torch.randn(6, 3, 8, 10)
    if kind == "conv2d, no batch axis":
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        return net, net[0].bias, 0, torch.randn(3, 8, 10)
    if kind == "transposed conv":
        net = nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.Dropout(0.5), nn.ReLU())
        return net, net[0].bias, 1, torch.randn(6, 3, 4, 5)
    if kind == "batch norm 1d":
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        return net, net[1].bias, 1, torch.randn(30, 4)
    if kind == "batch norm 2d":
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        return net, net[1].bias, 1, torch.randn(6, 3, 8, 8)
    if kind == "pooled":
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.ReLU())
        return net, net[0].bias, 1, torch.randn(6, 3, 8, 8)
    if kind == "tokens":
        net = Tokens(nn.ReLU())
        return net, net.norm.bias, 2, torch.randn(5, 7, 4)
    if kind == "channels last":
        net = ChannelsLast()
        return net, net.conv.bias, 3, torch.randn(5, 3, 6, 9)
    raise AssertionError(kind)


KINDS = [
    "linear", "conv1d", "conv2d", "conv2d, no batch axis", "transposed conv", "batch norm 1d", "batch norm 2d", "pooled",
    "tokens", "channels last",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("planted", [(), (0,), (1, 4, 5)])
def test_planted_units_are_found_and_no_other(kind, planted):
    net, bias, axis, x = network(kind)
    plant(bias, planted)
    (site,) = undying.census(net, [x]).sites
    seen = []
    activation = next(m for m in net.modules() if isinstance(m, nn.ReLU))
    handle = activation.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    net.eval()(x)
    handle.remove()
    fired, peak, values = brute_force(seen[0], axis)
    assert site.units == bias.numel()
    assert (site.samples, site.values) == (1 if kind == "conv2d, no batch axis" else len(x), values)
    assert site.fired.tolist() == fired
    assert site.peak.tolist() == peak
    assert set(planted) <= {u for u, s in enumerate(site.silent.tolist()) if s}
    assert site.silent.tolist() == [f == 0 for f in fired]
    assert site.dead.tolist() == site.silent.tolist()


@pytest.mark.parametrize("kind", ["linear", "conv2d", "tokens"])
def test_batch_size_and_order_do_not_matter(kind):
    net, bias, _, x = network(kind)
    plant(bias, (2,))
    whole = undying.census(net, x).sites[0]
    shuffled = undying.census(net, x[torch.randperm(len(x))].split(4)).sites[0]
    for key in ("fired", "silent", "dormant"):
        assert torch.equal(getattr(whole, key), getattr(shuffled, key))
    # A product of other sizes may round otherwise.
    torch.testing.assert_close(whole.peak, shuffled.peak, rtol=1e-6, atol=1e-6)
    assert (whole.samples, whole.values) == (shuffled.samples, shuffled.values)
    torch.testing.assert_close(whole.score, shuffled.score, rtol=1e-6, atol=0)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_against_brute_force_on_drawn_networks(data):
    widths = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    make = data.draw(st.sampled_from([nn.ReLU, undying.SUGAR, undying.BAReLU, nn.GELU, undying.BSiLU]))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    layers = []
    for i, o in itertools.pairwise(widths):
        layers += [nn.Linear(i, o), make()]
        dead = data.draw(st.sets(st.integers(0, o - 1)))
        plant(layers[-2].bias, dead)
    net = nn.Sequential(*layers).double()
    x = torch.randn(data.draw(st.integers(1, 9)), widths[0], dtype=torch.float64)
    tau = data.draw(st.sampled_from([0.0, 0.025, 0.5]))
    result = undying.census(net, list(x.split(data.draw(st.integers(1, 9)))), tau=tau)
    h = x
    for i, site in enumerate(result.sites):
        pre = net[2 * i](h)
        fired, _, n = brute_force(pre, 1)
        h = net[2 * i + 1](pre)
        assert (site.fired.tolist(), site.samples, site.values) == (fired, len(x), n)
        # Sokar et al. 2023, eq. 1
        means = [sum(abs(v) for v in column) / len(column) for column in h.double().T.tolist()]
        average = sum(means) / len(means)
        for unit, mean in enumerate(means):
            score = mean / average if average > 0 else 0.0
            assert site.score[unit].item() == pytest.approx(score, rel=1e-9)
            if abs(score - tau) > 1e-9:
                assert site.dormant[unit].item() == (score <= tau)


def test_a_module_called_twice_is_two_sites():
    net = Twice()
    plant(net.a.bias, (1,))
    plant(net.b.bias, (0, 6))
    result = undying.census(net, torch.randn(20, 3))
    assert [(s.name, s.units) for s in result.sites] == [("act", 5), ("act#2", 7)]
    assert result["act"].silent.nonzero().flatten().tolist() == [1]
    assert {0, 6} <= set(result["act#2"].silent.nonzero().flatten().tolist())


def test_no_unit_is_silent_where_none_is():
    """69 % of this network's post-activations are 0, which tools have reported as dead units."""
    net = nn.Sequential(nn.Linear(1, 64), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[:, None])
        net[0].bias.fill_(-0.5)
    result = undying.census(net, torch.linspace(-2, 2, 101)[:, None])
    assert result.silent_fraction == 0
    assert result.sparsity > 0.6


class Functional(nn.Module):
    """Every way to call relu but the module, with a module between."""

    def __init__(self, inner=None):
        super().__init__()
        self.conv, self.act, self.lin = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(8, 5)
        self.inner = inner

    def forward(self, x):
        x = F.relu(self.conv(x), inplace=True)
        x = self.act(x - 0.5)
        x = self.lin(x.mean((2, 3))).relu_()
        if self.inner is not None:
            x = self.inner(x)
        return torch.relu(x - 1)


@pytest.mark.parametrize("gradients", [False, True])
def test_functional_calls_are_sites(gradients):
    net = nn.Sequential(Functional())
    plant(net[0].conv.bias, (2, 3))
    plant(net[0].lin.bias, (4,))
    x = torch.randn(6, 3, 8, 8)
    result = undying.census(net, [(x, torch.randn(6, 5))], gradients=gradients)
    assert [(s.name, s.kind, s.units) for s in result.sites] == [
        ("0.relu", "ReLU", 8),
        ("0.act", "ReLU", 8),
        ("0.relu#2", "ReLU", 5),
        ("0.relu#3", "ReLU", 5),
    ]
    conv = net[0].conv(x)
    assert result["0.relu"].fired.tolist() == brute_force(conv, 1)[0]
    assert result["0.act"].fired.tolist() == brute_force(conv.relu() - 0.5, 1)[0]
    assert {2, 3} <= set(result["0.relu"].dead.nonzero().flatten().tolist())
    assert result["0.relu#2"].silent[4]


def test_a_converted_call_is_one_site_and_counts_the_same():
    net = Functional(inner=nn.Sequential(nn.Linear(5, 5), nn.ReLU()))
    x = torch.randn(6, 3, 8, 8)
    before = undying.census(net, x)
    undying.convert_(net, undying.SUGAR(), functional=True, example=x)
    after = undying.census(net, x)
    assert [s.name for s in before.sites] == ["relu", "act", "relu#2", "inner.1", "relu#3"]
    assert [s.name for s in after.sites] == ["undying_relu", "act", "undying_relu#2", "inner.1", "undying_relu#3"]
    for a, b in zip(before.sites, after.sites, strict=True):
        assert a.fired.tolist() == b.fired.tolist()
        torch.testing.assert_close(a.mean_abs, b.mean_abs)


def test_the_fused_path_of_a_transformer_does_not_hide_its_activation():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    plant(layer.linear1.bias, (1, 15))
    site = undying.census(layer, torch.randn(3, 4, 8))["relu"]
    assert (site.units, site.samples, site.values) == (16, 3, 12)
    assert {1, 15} <= set(site.silent.nonzero().flatten().tolist())


def test_an_own_activation_class_counts_by_its_call():
    class Squared(nn.Module):
        def forward(self, x):
            return F.relu(x) ** 2

    net = nn.Sequential(nn.Linear(3, 4), Squared())
    plant(net[0].bias, (3,))
    assert undying.census(net, torch.randn(9, 3))["1.relu"].silent[3]


def test_dead_needs_the_gradient_and_is_unknown_without():
    torch.manual_seed(0)
    x, y = torch.randn(50, 4), torch.randint(0, 3, (50,))
    for act, known_without, dead_with in (
        (nn.ReLU(), True, 3),
        (undying.SUGAR("nelu"), False, 0),
        (undying.BAReLU(), False, 0),
    ):
        net = nn.Sequential(nn.Linear(4, 8), act, nn.Linear(8, 3))
        with torch.no_grad():
            net[0].bias[:3] = -20.0
        without = undying.census(net, [(x, y)])
        assert (without["1"].dead is not None) is known_without
        assert (without.dead_fraction is None) is not known_without
        assert int(without["1"].silent.sum()) == 3
        result = undying.census(net, [(x, y)], gradients=True)
        assert result.loss == "cross_entropy"
        assert int(result["1"].silent.sum()) == 3
        assert int(result["1"].dead.sum()) == dead_with
    # a unit whose outgoing weights are 0 gets no gradient, whatever the activation
    with torch.no_grad():
        net[2].weight[:, 0] = 0
    assert undying.census(net, [(x, y)], gradients=True)["1"].dead.nonzero().flatten().tolist() == [0]


def test_gradients_work_in_place_with_frozen_parameters():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3), nn.ReLU(inplace=True))
    plant(net[0].bias, (2,))
    for p in net.parameters():
        p.requires_grad_(False)
    result = undying.census(net, [(torch.randn(9, 4), torch.randn(9, 3))], gradients=True)
    assert result.loss == "mse_loss"
    assert result["1"].dead[2]


def test_the_model_is_left_as_it_was():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=True), nn.ReLU(), nn.Dropout(), nn.Flatten()
    )
    net.append(nn.Linear(4 * 36, 3))
    net.register_buffer("calls", torch.zeros(()))
    net.register_forward_pre_hook(lambda m, _: setattr(m, "calls", m.calls + 1))
    net.train()
    net[3].eval()
    before = copy.deepcopy(net.state_dict())
    flags = [m.training for m in net.modules()]
    calls = net.calls
    net[0].weight.grad = torch.ones_like(net[0].weight)
    state, py_state = torch.get_rng_state(), random.getstate()

    def noisy():
        for _ in range(3):
            random.random()
            yield torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2,))

    undying.census(net, noisy(), gradients=True)
    assert torch.equal(state, torch.get_rng_state())
    assert py_state == random.getstate()
    assert flags == [m.training for m in net.modules()]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.calls is calls
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert all(p.grad is None for n, p in net.named_parameters() if n != "0.weight")
    assert not net[2]._forward_hooks
    assert not net[2]._forward_pre_hooks


def test_it_is_left_as_it_was_after_an_error_too():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    with pytest.raises(RuntimeError):
        undying.census(net, [torch.randn(3, 4), torch.randn(3, 5)])
    assert net.training
    assert not net[1]._forward_hooks


def test_inputs_as_tensor_tuple_list_and_dict():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    x = torch.randn(6, 4)
    expected = undying.census(net, x).sites[0].fired.tolist()
    for data in ([x], [(x, torch.zeros(6))], [[x]], [{"input": x}], {"input": x}, iter(x.split(2))):
        assert undying.census(net, data).sites[0].fired.tolist() == expected


def test_ambiguous_axes_are_reported_and_can_be_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.act, self.odd = nn.Linear(6, 6), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.odd(torch.einsum("nab->nba", self.act(self.lin(x)).unflatten(1, (2, 3))))

    result = undying.census(Odd(), torch.randn(5, 6))
    assert [site.name for site in result.sites] == ["act"]
    assert result.ambiguous == {"odd": (5, 3, 2)}
    assert "odd: not counted, nothing decides which axis of its (5, 3, 2) input" in str(result)
    with pytest.raises(KeyError, match="axes="):
        result["odd"]
    named = undying.census(Odd(), torch.randn(5, 6), axes={"odd": 1})
    assert (named["odd"].units, named.ambiguous) == (3, {})
    with pytest.raises(ValueError, match="axes gives 7"):
        undying.census(Odd(), torch.randn(5, 6), axes={"odd": 7})
    with pytest.raises(ValueError, match=r"'nope', which is no site; sites: act"):
        undying.census(Odd(), torch.randn(5, 6), axes={"nope": 1})


def test_nan_is_not_silence():
    net = nn.Sequential(nn.ReLU())
    x = torch.tensor([[-1.0, float("nan"), float("-inf")]])
    site = undying.census(net, x).sites[0]
    assert site.silent.tolist() == [True, False, True]
    assert site.nonfinite.tolist() == [0, 1, 1]


def test_half_precision_counts_exactly():
    net = nn.Sequential(nn.ReLU()).to(torch.bfloat16)
    x = torch.ones(5000, 2, dtype=torch.bfloat16)
    site = undying.census(net, x.split(700)).sites[0]
    assert site.fired.tolist() == [5000, 5000]
    assert site.mean_abs.tolist() == [1.0, 1.0]


def test_rate_bound_is_the_rule_of_three():
    net = nn.Sequential(nn.ReLU())
    site = undying.census(net, -torch.ones(1000, 1)).sites[0]
    assert site.firing_rate_bound == pytest.approx(1 - 0.05 ** (1 / 1000), rel=1e-12)
    assert site.firing_rate_bound == pytest.approx(3 / 1000, rel=0.01)


def test_errors_name_the_way_out():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match="no batch"):
        undying.census(net, [])
    with pytest.raises(ValueError, match="tau"):
        undying.census(net, x, tau=-1)
    with pytest.raises(ValueError, match="Linear called no activation"):
        undying.census(nn.Linear(2, 2), x)
    with pytest.raises(ValueError, match="loss="):
        undying.census(net, [x], gradients=True)
    with pytest.raises(ValueError, match="gradients=True"):
        undying.census(net, [x], loss=F.mse_loss)
    with pytest.raises(ValueError, match="0-dimensional"):
        undying.census(net, [(x, x)], gradients=True, loss=lambda o, _: o)
    with pytest.raises(KeyError, match="no site 'nope'; sites: 1"):
        undying.census(net, x)["nope"]


def test_table_and_dict():
    net = nn.Sequential(nn.Linear(2, 3), undying.SUGAR())
    plant(net[0].bias, (1,))
    result = undying.census(net, torch.randn(40, 2))
    assert str(result).splitlines()[0].split() == [
        *("layer", "->", "site"),
        "kind",
        "units",
        "N",
        "silent",
        "dead",
        "dormant",
        "firing",
    ]
    row = str(result).splitlines()[1].split()
    assert row[:6] == ["0", "->", "1", "SUGAR", "3", "40"]
    assert row[7] == "unknown"
    assert result.to_dict()["sites"][0]["silent"] == [bool(s) for s in result.sites[0].silent]


def same(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_save_and_load(tmp_path):
    net = nn.Sequential(nn.Linear(2, 3), undying.SUGAR(), nn.ReLU())
    x = torch.tensor([[1.0, 2.0], [float("inf"), 0.0], [float("nan"), 0.0]])
    result = undying.census(net, x)
    path = tmp_path / "census.json"
    result.save(path)
    again = undying.Census.load(path)
    assert (again.tau, again.loss, again.probe) == (result.tau, result.loss, result.probe)
    for a, b in zip(again.sites, result.sites, strict=True):
        for field in dataclasses.fields(a):
            one, other = getattr(a, field.name), getattr(b, field.name)
            if field.name in ("peak", "mean_abs", "score"):
                torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
            else:
                assert same(one, other), field.name
    assert [p.name for p in tmp_path.iterdir()] == ["census.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not hold a census"),
        ("[]", "does not hold a census"),
        ('{"format": 9}', "format 9"),
        ("{}", "format None"),
    ],
)
def test_what_is_no_census_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        undying.Census.load(path)


def test_died_and_revived_on_the_same_probe():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    x = torch.randn(50, 4)
    plant(net[0].bias, (0, 1))
    before = undying.census(net, x)
    with torch.no_grad():
        net[0].bias[0] = 0.0
    plant(net[0].bias, (5,))
    changes = undying.census(net, x[torch.randperm(50)].split(7)).since(before)["1"]
    assert changes.revived.nonzero().flatten().tolist() == [0]
    assert changes.died.nonzero().flatten().tolist() == [5]
    other = undying.census(net, torch.randn(50, 4))
    with pytest.raises(ValueError, match="different data"):
        other.since(before)
    assert other.since(before, other_probe=True)["1"].died[5]
    wider = nn.Sequential(nn.Linear(4, 7), nn.ReLU())
    with pytest.raises(ValueError, match="different sites"):
        undying.census(wider, x).since(before)


@pytest.mark.parametrize("gradients", [False, True])
def test_censuses_of_two_shares_add_to_that_of_the_whole(gradients):
    """As on two ranks; the whole is counted at once, by itself."""
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), undying.SUGAR(), nn.Linear(5, 3))
    plant(net[0].bias, (0, 1))
    x, y = torch.randn(50, 4), torch.randint(0, 3, (50,))
    whole = undying.census(net, [(x, y)], gradients=gradients)
    first, second = (
        undying.census(net, [(x[part], y[part])], gradients=gradients) for part in (slice(33), slice(33, 50))
    )
    added = first + second
    assert added.probe == whole.probe
    for a, b in zip(added.sites, whole.sites, strict=True):
        for field in dataclasses.fields(a):
            one, other = getattr(a, field.name), getattr(b, field.name)
            if field.name in ("peak", "mean_abs", "score", "zero"):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=0)
            else:
                assert same(one, other), (a.name, field.name)
    with pytest.raises(ValueError, match="same sites"):
        _ = first + undying.census(net, [(x, y)], tau=0.5, gradients=gradients)


class Predictor(nn.Module):
    """A network without a forward."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)

    def predict(self, x):
        return F.relu(self.last(self.act(self.first(x - 1))))


def test_a_method_that_is_not_forward_is_counted():
    net, x = Predictor(), torch.randn(9, 4)
    for method in ("predict", net.predict, lambda x: net.predict(x)):
        counted = undying.census(net, x, method=method)
        assert [site.name for site in counted.sites] == ["act", "relu"]
        assert counted["act"].fired.tolist() == (net.first(x - 1) > 0).sum(0).tolist()
        assert counted.unrecognised == {}
    for method in ("encode", 3):
        with pytest.raises(TypeError, match=f"name a method of Predictor, not {method!r}"):
            undying.census(net, x, method=method)


def test_places_that_are_not_recognised_are_kept_in_files_and_sums(tmp_path):
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Threshold(0, 0))
    counted = undying.census(net, torch.randn(9, 4))
    assert {name: (place.layer, place.what) for name, place in counted.unrecognised.items()} == {
        "3.threshold": ("3", "threshold")
    }
    assert "3.threshold: not recognised, so not counted: threshold" in str(counted)
    with pytest.raises(KeyError, match="not recognised: threshold"):
        counted["3.threshold"]
    counted.save(tmp_path / "c.json")
    assert undying.Census.load(tmp_path / "c.json").unrecognised == counted.unrecognised
    assert (counted + counted).unrecognised == counted.unrecognised
    old = {key: value for key, value in counted.to_dict().items() if key != "unrecognised"}
    assert undying.Census.from_dict(old).unrecognised == {}


def test_a_census_counts_no_samples_ranks_or_statistics_as_units():
    class Net(nn.Module):
        def __init__(self, run):
            super().__init__()
            self.lin, self.act, self.shift = nn.Linear(4, 6), nn.ReLU(), nn.Parameter(torch.zeros(6, 4))
            self.register_buffer("fixed", torch.randn(6, 4))
            self.run = run

        def forward(self, x):
            return self.act(self.run(self, self.lin(x), x))

    def found(run):
        counted = undying.census(Net(run), torch.randn(9, 4))
        return counted["act"].units if counted.sites else counted.ambiguous

    no_units = {
        "computed weight on the left": lambda m, h, x: (m.lin.weight * x.mean()) @ x.T,
        "attention": lambda m, h, x: h @ h.T,
        "weights of samples": lambda m, h, x: torch.softmax(x @ x.T, -1) @ x,
        "distances": lambda m, h, x: torch.cdist(h, h),
        "einsum of data": lambda m, h, x: torch.einsum("nf,mf->nm", x, x),
        "transposed": lambda m, h, x: x.T,
        "hinge on a statistic": lambda m, h, x: 1 - (h.var(0) + 1e-4).sqrt(),
        "hinge on distances": lambda m, h, x: 1 + (h - h.flip(0)).norm(dim=1),
    }
    for what, run in no_units.items():
        assert list(found(run)) == ["act"], what
    ranks = {
        "ranks": lambda m, h, x: h.topk(3).values,
        "sorted": lambda m, h, x: h.sort(descending=True)[0],
        "gathered": lambda m, h, x: h.gather(1, h.argsort(1)),
        "weights of experts": lambda m, h, x: h.topk(3).values.softmax(-1),
    }
    for what, run in ranks.items():
        for axes in (None, {"act": -1}):  # no axis of them holds units, whatever is said
            with pytest.raises(ValueError, match=r"act: its input is picked by a sort.*undying\.Indexed"):
                print(what, undying.census(Net(run), torch.randn(9, 4), axes=axes))
    units = {
        "weight on the left": lambda m, h, x: m.lin.weight @ x.T,
        "its sum with another": lambda m, h, x: (m.lin.weight + m.shift) @ x.T,
        "buffer on the left": lambda m, h, x: m.fixed @ x.T,
        "linear of weights": lambda m, h, x: F.linear(m.lin.weight, x),
        "weight on the right": lambda m, h, x: x @ (2 * m.lin.weight).T,
        "einsum with weights": lambda m, h, x: torch.einsum("nf,of->on", x, m.lin.weight),
        "attention": lambda m, h, x: torch.softmax(x @ x.T, -1) @ h,
        "sorted by samples": lambda m, h, x: h.sort(0).values,
        "batch norm by hand": lambda m, h, x: (h - h.mean(0)) / h.var(0).sqrt(),
        "pooled and stacked": lambda m, h, x: torch.stack([part.mean(0) for part in h.split(3)]),
    }
    for what, run in units.items():
        assert found(run) == 6, what
