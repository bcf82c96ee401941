"""recycle_ against what can be told without it: outputs before and after, a planted death, torch's own draws, and, for
what an optimizer remembers, the parts of the weights written out by hand."""

import copy
import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class Net(nn.Module):
    """A forward given as a function of the network and its input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.run(self, x)


def die(parameter, *units):
    """Plant a death: a bias so low that nothing brings the unit above 0."""
    with torch.no_grad():
        parameter[list(units)] = -1e4
    return parameter


def output(net, x):
    net.eval()
    with torch.no_grad():
        return net(x)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in b)


def mlp():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))
    die(net[0].bias, 1, 4)
    die(net[2].bias, 0, 5, 8)
    return net, torch.randn(40, 6), {"1": [1, 4], "3": [0, 5, 8]}


def all_dead():
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    die(net[0].bias, *range(4))
    die(net[2].bias, *range(4))
    return net, torch.randn(40, 6), {"1": [0, 1, 2, 3], "3": [0, 1, 2, 3]}


def functional_cnn():
    def forward(net, x):
        x = F.max_pool2d(F.relu(net.conv1(x)), 2)
        x = F.avg_pool2d(net.conv2(x).relu_(), 2)
        return net.fc2(F.dropout(torch.relu(net.fc1(torch.flatten(x, 1))), training=net.training))

    conv1, conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
    net = Net(forward, conv1=conv1, conv2=conv2, fc1=nn.Linear(20, 7), fc2=nn.Linear(7, 4))
    die(net.conv1.bias, 0, 5)
    die(net.conv2.bias, 3)
    die(net.fc1.bias, 2, 6)
    return net, torch.randn(9, 3, 8, 8), {"relu": [0, 5], "relu#2": [3], "relu#3": [2, 6]}


def batch_normed():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3, bias=False),
        nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
    )  # fmt: skip
    net(torch.randn(20, 3, 8, 8))
    die(net[1].bias, 1, 2)
    die(net[4].bias, 0)
    return net, torch.randn(9, 3, 8, 8), {"2": [1, 2], "5": [0]}


def depthwise():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.ReLU6(),
        nn.Conv2d(6, 2, 1),
    )  # fmt: skip
    die(net[1].bias, 1, 2)
    die(net[4].bias, 2, 5)
    return net, torch.randn(9, 3, 8, 8), {"2": [1, 2], "5": [2, 5]}


def grouped():
    net = nn.Sequential(
        nn.Conv1d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv1d(6, 9, 3, groups=3), nn.ReLU(), nn.Conv1d(9, 2, 1)
    )
    die(net[0].bias, 1, 3)
    die(net[2].bias, 4, 8)
    return net, torch.randn(9, 4, 12), {"1": [1, 3], "3": [4, 8]}


def transposed():
    net = nn.Sequential(
        nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 3),
    )  # fmt: skip
    die(net[0].bias, 1, 4)
    die(net[2].bias, 0, 3)
    return net, torch.randn(9, 3, 4, 4), {"1": [1, 4], "3": [0, 3]}


def volumes():
    net = nn.Sequential(nn.Conv3d(1, 4, 2), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(4, 2))
    die(net[0].bias, 1, 2)
    return net, torch.randn(9, 1, 3, 3, 3), {"1": [1, 2]}


def concatenated():
    def forward(net, x):
        h = torch.cat([F.relu(net.a(x)), F.relu(net.b(x))], 1)
        return net.c(F.channel_shuffle(h, 2)).flatten(1)

    net = Net(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 2, 1), c=nn.Conv2d(6, 5, 3))
    die(net.a.bias, 1)
    die(net.b.bias, 0)
    return net, torch.randn(9, 3, 5, 5), {"relu": [1], "relu#2": [0]}


def dense():
    """As in densenet: what is concatenated is read by all that follow, so that of the norm alone rows are reset."""

    def forward(net, x):
        y = net.conv1(F.relu(net.norm1(x)))
        y = torch.cat([x, y], 1)
        return net.fc(F.relu(net.norm2(y)).mean((2, 3)))

    net = Net(forward, norm1=nn.BatchNorm2d(4), conv1=nn.Conv2d(4, 3, 1), norm2=nn.BatchNorm2d(7), fc=nn.Linear(7, 2))
    die(net.norm1.bias, 2)
    die(net.norm2.bias, 0, 6)
    return net, torch.randn(9, 4, 3, 3), {"relu": [2], "relu#2": [0, 6]}


def layer_normed():
    net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    die(net[1].bias, 1, 4)
    return net, torch.randn(9, 5, 6), {"2": [1, 4]}


def group_normed():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    die(net[1].bias, 1, 4)
    return net, torch.randn(9, 3, 5, 5), {"2": [1, 4]}


def residual():
    def forward(net, x):
        h = net.stem(x)
        h = F.relu(net.norm(net.conv(F.relu(h))) + net.skip(h))
        return net.fc(h.mean((-2, -1)))

    modules = {"stem": nn.Conv2d(3, 5, 1), "conv": nn.Conv2d(5, 4, 3, padding=1), "norm": nn.BatchNorm2d(4)}
    net = Net(forward, **modules, skip=nn.Conv2d(5, 4, 1), fc=nn.Linear(4, 2))
    die(net.norm.bias, 1, 3)
    return net, torch.randn(9, 3, 5, 5), {"relu#2": [1, 3]}


def shared_module():
    def forward(net, x):
        for _ in range(2):
            x = net.down(net.act(net.up(x)))
        return x

    net = Net(forward, up=nn.Linear(4, 6), act=nn.ReLU(), down=nn.Linear(6, 4))
    die(net.up.bias, 2, 3)
    return net, torch.randn(30, 4), {"act": [2, 3], "act#2": [2, 3]}


def by_hand():
    def forward(net, x):
        h = F.relu(x @ net.w1 + net.b1)
        return torch.addmm(net.b2, F.relu(F.linear(h, net.w3.t(), net.b3)), net.w2)

    net = Net(forward)
    for name, shape in {"w1": (4, 6), "b1": (6,), "w3": (6, 5), "b3": (5,), "w2": (5, 3), "b2": (3,)}.items():
        net.register_parameter(name, nn.Parameter(torch.randn(shape)))
    die(net.b1, 2, 3)
    die(net.b3, 0)
    return net, torch.randn(30, 4), {"relu": [2, 3], "relu#2": [0]}


def split():
    def forward(net, x):
        a, b = net.fc(x).chunk(2, -1)
        return net.out(F.relu(a)) + net.other(torch.stack([F.relu(b)], 1).squeeze(1))

    net = Net(forward, fc=nn.Linear(4, 6), out=nn.Linear(3, 2), other=nn.Linear(3, 2))
    die(net.fc.bias, 1, 5)
    return net, torch.randn(30, 4), {"relu": [1], "relu#2": [2]}


def converted():
    net, x, _ = functional_cnn()
    undying.convert_(net, undying.SUGAR(), functional=True, example=x)
    return net, x, {"undying_relu": [0, 5], "undying_relu#2": [3], "undying_relu#3": [2, 6]}


def shuffled():
    """Channels are shuffled by reshaping, and one of two halves passes by."""

    def forward(net, x):
        a, b = net.stem(x).chunk(2, 1)
        h = torch.cat([a, F.relu(net.conv(b))], 1)
        h = h.view(len(x), 2, 4, 5, 5).transpose(1, 2).contiguous().view(len(x), 8, 5, 5)
        return net.last(h[:, 1:]).flatten(1)

    net = Net(forward, stem=nn.Conv2d(3, 8, 1), conv=nn.Conv2d(4, 4, 3, padding=1), last=nn.Conv2d(7, 2, 2))
    die(net.conv.bias, 0, 3)
    return net, torch.randn(9, 3, 5, 5), {"relu": [0, 3]}


def gated():
    """As in squeeze and excitation."""

    def forward(net, x):
        h = net.conv(x)
        gate = torch.sigmoid(net.up(F.relu(net.down(h.mean((2, 3))))))
        return net.last((h * gate[:, :, None, None]).amax((2, 3)))

    net = Net(forward, conv=nn.Conv2d(3, 6, 1), down=nn.Linear(6, 4), up=nn.Linear(4, 6), last=nn.Linear(6, 2))
    die(net.down.bias, 2)
    return net, torch.randn(9, 3, 5, 5), {"relu": [2]}


def sliced_parameters():
    """Rows 4 and 5 of one parameter are units 1 and 2."""

    def forward(net, x):
        return net.last(F.relu(F.linear(x, net.weight[3:9], net.bias[3:9])))

    net = Net(forward, last=nn.Linear(6, 2))
    net.weight, net.bias = nn.Parameter(torch.randn(12, 4)), die(nn.Parameter(torch.randn(12)), 4, 5)
    return net, torch.randn(20, 4), {"relu": [1, 2]}


CASES = [
    converted, shuffled, gated, sliced_parameters,
    mlp, all_dead, functional_cnn, batch_normed, depthwise, grouped, transposed, volumes, concatenated, dense,
    layer_normed, group_normed, residual, shared_module, by_hand, split,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_planted_units_are_recycled_and_the_outputs_stay_bit_for_bit(case):
    net, x, planted = case()
    others = 2 * torch.randn_like(x)  # the units are dead there too, though nothing was looked at
    before, there = output(net, x), output(net, others)
    optimizer = torch.optim.Adam(net.parameters())
    report = undying.recycle_(net, optimizer, probe=x, units=planted)
    assert torch.equal(output(net, x), before)
    assert torch.equal(output(net, others), there)
    counted = undying.census(net, x)
    for name, units in planted.items():
        row = report[name]
        assert (row.recycled, row.refused, row.silent, row.change) == (tuple(units), {}, (), 0.0), row
        assert not counted[name].silent[units].any()


# What the optimizer remembers


def expected_slices(net):
    """Of ``mlp`` by hand: rows of what makes the planted units, and what weighs them and is no such row."""
    where = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in net.named_parameters()}
    where["0.weight"][[1, 4]] = True
    where["0.bias"][[1, 4]] = True
    where["2.weight"][[0, 5, 8]] = True
    where["2.weight"][:, [1, 4]] = True
    where["2.bias"][[0, 5, 8]] = True
    where["4.weight"][:, [0, 5, 8]] = True
    return where


class Lion(torch.optim.Optimizer):
    """Keeps its moments in a list in a dict, and a count that is a number."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].setdefault("step", 1)
                moments = self.state[p].setdefault("ema", {"all": [torch.zeros_like(p), None]})["all"]
                moments[0].lerp_(p.grad, 0.1)


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "Adam fused": lambda p: torch.optim.Adam(p, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, 1e-4, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-4, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-4),
    "NAdam": lambda p: torch.optim.NAdam(p, 1e-4),
    "Lion": lambda p: Lion(p, {}),
}


def remembered(value):
    """Every tensor in an optimizer's state of one parameter that is no number."""
    if isinstance(value, torch.Tensor):
        return [value] if value.dim() else []
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [tensor for v in values for tensor in remembered(v)]


def stepped(net, *optimizers):
    """One step with gradients everywhere, after which the planted units are still silent."""
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_moments_of_what_changed_become_0_and_all_others_stay(make):
    net, x, planted = mlp()
    optimizer = make(net.parameters())
    stepped(net, optimizer)
    before = {name: [t.clone() for t in remembered(optimizer.state[p])] for name, p in net.named_parameters()}
    steps = [copy.deepcopy(optimizer.state[p].get("step")) for p in net.parameters()]
    weights = state(net)
    undying.recycle_(net, optimizer, probe=x, units=planted)
    where = expected_slices(net)
    for name, p in net.named_parameters():
        now = remembered(optimizer.state[p])
        assert len(now) == len(before[name]) > 0
        for old, new in zip(before[name], now, strict=True):
            assert torch.equal(new, old.masked_fill(where[name], 0))
        assert torch.equal(p.grad == 0, where[name])
        assert torch.equal(p != weights[name], where[name])
    assert [optimizer.state[p].get("step") for p in net.parameters()] == steps


def test_what_is_no_moment_becomes_what_it_was_at_the_start():
    net, x, planted = mlp()
    averaged, resilient = torch.optim.ASGD(net.parameters(), t0=0), torch.optim.Rprop(net.parameters(), lr=0.003)
    stepped(net, averaged, resilient)
    undying.recycle_(net, [averaged, resilient], probe=x, units=planted)
    for name, where in expected_slices(net).items():
        p = net.get_parameter(name)
        assert torch.equal(averaged.state[p]["ax"][where], p[where])
        assert (resilient.state[p]["step_size"][where] == 0.003).all()
        assert (resilient.state[p]["prev"][where] == 0).all()


def test_groups_of_several_optimizers_are_one_network():
    net, x, planted = mlp()
    first = torch.optim.Adam([{"params": net[0].parameters()}, {"params": net[4].parameters(), "lr": 0.1}])
    second = torch.optim.SGD(net[2].parameters(), 0.1, momentum=0.9)
    stepped(net, first, second)
    undying.recycle_(net, [first, second], probe=x, units=planted)
    where = expected_slices(net)
    assert torch.equal(first.state[net[4].weight]["exp_avg"] == 0, where["4.weight"])
    assert torch.equal(second.state[net[2].weight]["momentum_buffer"] == 0, where["2.weight"])


def test_an_optimizer_without_a_parameter_is_an_error_that_names_it():
    net, x, planted = mlp()
    optimizer, before = torch.optim.Adam(net[:3].parameters()), state(net)
    with pytest.raises(ValueError, match=r"does not hold '4.weight'"):
        undying.recycle_(net, optimizer, probe=x, units=planted)
    assert same(before, net.state_dict())
    net[4].requires_grad_(False)  # what is not trained needs no optimizer
    assert undying.recycle_(net, optimizer, probe=x, units=planted).recycled == 5
    with pytest.raises(TypeError, match="optimizer must be"):
        undying.recycle_(net, "adam", probe=x)


# The incoming weights


class Halves(nn.Linear):
    def reset_parameters(self):
        nn.init.constant_(self.weight, 0.5)
        nn.init.constant_(self.bias, 0.25)


def test_default_is_the_layers_own_reset():
    net = nn.Sequential(Halves(4, 6), nn.ReLU(), nn.Linear(6, 2))
    nn.init.normal_(net[0].weight)
    die(net[0].bias, 3)
    undying.recycle_(net, probe=torch.rand(20, 4))
    assert (net[0].weight[3] == 0.5).all()
    assert net[0].bias[3] == 0.25


def test_kaiming_draws_have_its_variance():
    net = nn.Sequential(nn.Conv2d(8, 64, 5), nn.ReLU(), nn.Conv2d(64, 2, 1))
    nn.init.zeros_(net[0].weight)
    undying.recycle_(net, probe=torch.randn(4, 8, 6, 6), units={"1": range(64)}, init="kaiming")
    assert net[0].weight.var().item() == pytest.approx(2 / (8 * 25), rel=0.05)
    assert (net[0].bias == 0).all()


def test_scaled_rows_have_the_mean_norm_of_the_others():
    net, x, planted = mlp()
    undying.recycle_(net, probe=x, units=planted, init="scaled")
    norms = net[0].weight.norm(dim=1)
    living = [0, 2, 3, 5, 6, 7]
    torch.testing.assert_close(norms[[1, 4]], norms[living].mean().expand(2))


@pytest.mark.parametrize("case", [mlp, batch_normed, layer_normed, residual, by_hand])
def test_recenter_moves_a_bias_alone(case):
    net, x, planted = case()
    before, weights = output(net, x), state(net)
    report = undying.recycle_(net, probe=x, units=planted, init="recenter")
    assert torch.equal(output(net, x), before)
    counted = undying.census(net, x)
    for name, units in planted.items():
        assert report[name].recycled == tuple(units)
        assert torch.allclose(counted[name].firing_rate[units], torch.tensor(0.5).double(), atol=0.03)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, weights[name])}
    assert not any("running" in name for name in changed)


def test_one_generator_gives_one_network_and_none_else_is_touched():
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        net, x, planted = mlp()
        torch.manual_seed(len(results))
        ahead = torch.get_rng_state()
        undying.recycle_(net, probe=x, units=planted, generator=torch.Generator().manual_seed(7))
        assert torch.equal(torch.get_rng_state(), ahead)
        assert net.training
        results.append(state(net))
    assert same(*results)


def test_a_unit_that_fires_on_nothing_it_could_be_given_is_reported():
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    report = undying.recycle_(net, probe=torch.zeros(5, 4))
    assert report["1"].silent == (0, 1, 2)
    assert "3 do not fire on the probe" in str(report)


def test_recycled_units_live_on_and_without_it_they_stay_dead():
    def trained(recycle):
        torch.manual_seed(3)
        net, x, planted = functional_cnn()
        target, optimizer = torch.randint(4, (9,)), torch.optim.Adam(net.parameters(), 1e-3)
        if recycle:
            undying.recycle_(net, optimizer, probe=x)
        for _ in range(50):
            optimizer.zero_grad()
            F.cross_entropy(net.train()(x), target).backward()
            optimizer.step()
        counted = undying.census(net, x)
        return [bool(counted[name].silent[u]) for name, units in planted.items() for u in units]

    assert trained(recycle=False) == [True] * 5
    assert trained(recycle=True) == [False] * 5


# What units still say


def test_a_constant_moves_into_the_bias_behind():
    """Unit 1 is always 2, whatever the input: what it gives is a constant of each output."""
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0.0, 2.0
    x, weights = torch.randn(30, 4), state(net)
    before = output(net, x)
    report = undying.recycle_(net, probe=x, units={"1": [1]})
    torch.testing.assert_close(net[2].bias, weights["2.bias"] + 2 * weights["2.weight"][:, 1])
    torch.testing.assert_close(output(net, x), before)
    assert 0 <= report["1"].change < 1e-5


@pytest.mark.parametrize("training", [False, True])
def test_without_a_bias_it_moves_into_the_running_mean_behind(training):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)
    )
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0.0, 2.0
    x = torch.randn(9, 2, 4, 4)
    old = copy.deepcopy(net).train(training)
    assert undying.recycle_(net, probe=x, units={"1": [1]}).recycled == 1
    torch.testing.assert_close(net.train(training)(x), old(x))
    assert not torch.equal(net[3].running_mean, old[3].running_mean)


def test_dormant_units_keep_the_function_within_the_tolerance_and_others_are_refused():
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        net[0].weight[[2, 5]] *= 1e-3
        net[0].bias[[2, 5]] *= 1e-3
    x = torch.randn(200, 4)
    before = output(net, x)
    assert undying.census(net, x)["1"].dormant.nonzero().flatten().tolist() == [2, 5]
    report = undying.recycle_(net, probe=x, units="dormant")
    change = (output(net, x) - before).abs().max().item()
    assert report["1"].recycled == (2, 5)
    assert report["1"].change == pytest.approx(change)
    assert 0 < change <= 0.01 * before.abs().max()
    weights = state(net)
    report = undying.recycle_(net, probe=x, units={"1": [0, 7]})
    assert (report["1"].recycled, set(report["1"].refused)) == ((), {0, 7})
    assert "tolerance=0.01 allows" in report["1"].refused[0]
    assert same(weights, net.state_dict())
    die(net[0].bias, 3)
    report = undying.recycle_(net, probe=x, units={"1": [0, 3]})
    assert (report["1"].recycled, set(report["1"].refused)) == ((3,), {0})  # the silent one does not pay for the other
    assert undying.recycle_(net, probe=x, units={"1": [0, 7]}, tolerance=10).recycled == 2


def test_the_norm_behind_a_unit_makes_a_constant_of_it():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    die(net[0].bias, 2)
    nn.init.constant_(net[2].bias, 0.7)
    x, weights = torch.randn(30, 4), state(net)
    before = output(net, x)
    assert undying.recycle_(net, probe=x).recycled == 1
    torch.testing.assert_close(output(net, x), before)
    torch.testing.assert_close(net[3].bias, weights["3.bias"] + 0.7 * weights["3.weight"][:, 2])


# What is refused


def refused_residual():
    def forward(net, x):
        h = F.relu(net.a(x))
        return net.c(h + net.b(h))

    return (
        Net(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 2)),
        "relu",
        r"Net \(add\) adds it to another",
    )


def refused_return():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "1", "the network returns it"


def refused_operation():
    net = Net(
        lambda net, x: net.c(F.softmax(net.act(net.a(x)), -1)), a=nn.Linear(4, 4), act=nn.ReLU(), c=nn.Linear(4, 2)
    )
    return net, "act", r"Net \(softmax\) reads it"


def refused_norm():
    return (
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2)),
        "1",
        r"2 \(layer_norm\) mixes it with others",
    )


def refused_activation():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh(), nn.Linear(4, 2)), "1", "the activation 2 reads it"


def refused_parametrization():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2)), "1", r"0 \(linear\) is computed \(parametrized"


def refused_parametrization_behind():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2))
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), layer), "1", r"2 \(linear\) is computed \(parametrized"


def refused_tied():
    def forward(net, x):
        return F.linear(F.relu(net.a(x)), net.a.weight.t())

    return Net(forward, a=nn.Linear(4, 6)), "relu", r"Net \(linear\)"


def refused_two_readers():
    def forward(net, x):
        h = net.a(x)
        return net.c(F.relu(h)) + net.d(h)

    return (
        Net(forward, a=nn.Linear(4, 4), c=nn.Linear(4, 2), d=nn.Linear(4, 2)),
        "relu",
        "reads it before the activation",
    )


def refused_second_call():
    """Chosen at the first call of the shared module alone."""

    def forward(net, x):
        for _ in range(2):
            x = net.down(net.act(net.up(x)))
        return x

    net = Net(forward, up=nn.Linear(4, 6), act=nn.ReLU(), down=nn.Linear(6, 4))
    die(net.up.bias, 1)
    return net, "act", r"a parameter of up \(linear\) is also that of up \(linear\), where the unit is not recycled"


def refused_shared_norm():
    """The norm is that of another branch too, in which the unit is not chosen."""

    def forward(net, x):
        return net.c(F.relu(net.norm(net.a(x)))) + net.d(F.relu(net.norm(net.b(x))))

    net = Net(
        forward, norm=nn.BatchNorm1d(4), **{k: nn.Linear(4, 4) for k in "ab"}, **{k: nn.Linear(4, 2) for k in "cd"}
    )
    return net, "relu", r"a parameter of norm \(batch_norm\) is also that of norm \(batch_norm\)"


def refused_plain_norm():
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False), nn.ReLU(), nn.Linear(4, 2))
    return net, "2", r"1 \(layer_norm\) has no weights of its own"


def refused_regularized():
    def forward(net, x):
        return net.c(F.relu(net.a(x))) + net.a.weight.square().sum()

    return Net(forward, a=nn.Linear(4, 4), c=nn.Linear(4, 2)), "relu", r"also read by Net \(square\)"


def refused_input():
    net = Net(lambda net, x: net.c(F.relu(x)), c=nn.Linear(4, 2))
    return net, "relu", "not followed: the input of the network"


def refused_einsum():
    net = Net(lambda net, x: net.c(F.relu(torch.einsum("bi,oi->bo", x, net.w))), c=nn.Linear(4, 2))
    net.w = nn.Parameter(torch.randn(4, 4))
    return net, "relu", r"not followed: Net \(einsum\)"


def refused_without_bias():
    return (
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)),
        "1",
        r"says something to 2 \(linear\), which has no bias",
    )


REFUSED = [value for name, value in list(globals().items()) if name.startswith("refused_")]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.__name__)
def test_what_cannot_be_right_is_refused_by_name_and_left_as_it_was(case):
    net, site, reason = case()
    x = torch.randn(30, 4)
    optimizer = torch.optim.Adam(net.parameters())
    stepped(net, optimizer)
    weights, moments = state(net), copy.deepcopy(optimizer.state_dict())
    report = undying.recycle_(net, optimizer, probe=x, units={site: [1]}, tolerance=1e9)
    assert report[site].recycled == ()
    assert re.search(reason, report[site].refused[1]), report[site].refused[1]
    assert same(weights, net.state_dict())
    assert all(
        torch.equal(new, old)
        for i, values in optimizer.state_dict()["state"].items()
        for old, new in zip(moments["state"][i].values(), values.values(), strict=True)
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_reader_that_no_mode_shows_is_seen_by_the_outputs():
    """Within the tolerance too: where units gave 0, nothing may change."""
    hidden = torch.jit.script(nn.Linear(4, 2))
    net = Net(lambda net, x: net.c(h := F.relu(net.a(x))) + 1e-3 * hidden(h), a=nn.Linear(4, 4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    weights = state(net)
    report = undying.recycle_(net, probe=torch.randn(30, 4), units={"relu": [1]})
    assert "something that is not followed reads it" in report["relu"].refused[1]
    assert same(weights, net.state_dict())


def test_one_refused_site_does_not_keep_the_others():
    net, _, _ = refused_residual()
    die(net.a.bias, 0)
    more = nn.Sequential(net, nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    die(more[1].bias, 2)
    report = undying.recycle_(more, probe=torch.randn(20, 4), units={"0.relu": [0], "2": [2]})
    assert (report.recycled, report.refused) == (1, 1)
    assert report["2"].recycled == (2,)


def test_recenter_without_a_bias_is_refused():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    report = undying.recycle_(net, probe=torch.randn(9, 4), units={"1": [1]}, init="recenter", tolerance=1e9)
    assert "no bias that could be moved" in report["1"].refused[1]


# What it is told


def test_bad_input_is_an_error_that_leaves_the_network_as_it_was():
    net, x, _ = mlp()
    weights = state(net)
    other = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    wider = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3))
    longer = nn.Sequential(*wider, nn.ReLU())
    converted, _, _ = mlp()
    undying.convert_(converted, undying.SUGAR())
    for given, error in [
        ({"census": undying.census(other, x)}, "the network has a site '3', which the census does not"),
        ({"census": undying.census(longer, x)}, "site '3' has 7 units in the census and 9 in the network"),
        (
            {"census": undying.census(nn.Sequential(net, nn.ReLU()), x)},
            "has a site '0.1', which the network does not have",
        ),
        ({"census": undying.census(converted, x)}, "is a SUGAR in the census and a ReLU now"),
        ({"units": undying.certify(nn.Sequential(*net[:3]), undying.Box(-x.new_ones(1, 6), x.new_ones(1, 6)))}, None),
        ({"units": {"1": [8]}}, "units gives 8 for site '1', which has the units 0 to 7"),
        ({"units": {"1": [-1]}}, "units gives -1"),
        ({"units": {"1": [True] * 7}}, "7 values for site '1', which has 8 units"),
        ({"units": {"act": [0]}}, "units names 'act', which is no site; sites: 1, 3"),
        ({"units": "asleep"}, "units must be one of silent, dead, dormant"),
        ({"init": "zeros"}, "init must be one of default, kaiming, scaled, recenter"),
        ({"tolerance": -1}, "tolerance must be at least 0"),
        ({"probe": []}, "probe gave no batch"),
    ]:
        if error is None:
            continue
        with pytest.raises(ValueError, match=re.escape(error)):
            undying.recycle_(net, **{"probe": x, **given})
    with pytest.raises(TypeError, match="give data as probe="):
        undying.recycle_(net, None, x, probe=x)
    with pytest.raises(TypeError, match="a bool mask or numbers"):
        undying.recycle_(net, probe=x, units={"1": [0.5]})
    assert same(weights, net.state_dict())


def test_nothing_to_recycle_is_an_empty_report_that_says_so():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    nn.init.ones_(net[0].weight)
    weights = state(net)
    report = undying.recycle_(net, probe=torch.rand(9, 2) + 2)
    assert (report.rows, str(report)) == ((), "nothing to recycle: no unit of 1 sites is silent")
    assert same(weights, net.state_dict())


def test_a_unit_that_fires_on_the_probe_is_not_silent():
    net, x, _ = mlp()
    counted = undying.census(net, x)
    nn.init.constant_(net[0].bias, 1.0)
    report = undying.recycle_(net, census=counted, probe=x)
    assert set(report["1"].refused) >= {1, 4}
    assert "it fires on the probe" in report["1"].refused[1]
    assert {0, 5, 8} <= set(report["3"].recycled)


def test_a_certificate_names_units():
    net, x, planted = mlp()
    box = undying.Box(x.amin(0, keepdim=True), x.amax(0, keepdim=True))
    report = undying.recycle_(net, probe=x, units=undying.certify(net, box))
    assert {row.name: row.recycled for row in report.rows} == {name: tuple(units) for name, units in planted.items()}
    with pytest.raises(ValueError, match="the certificate is of a Sequential, and the network is a Net"):
        undying.recycle_(Net(lambda net, x: net.a(x), a=net), probe=x, units=undying.certify(net, box))


def test_batches_of_a_probe_count_together():
    """Dicts and pairs as a census takes them; a unit is only silent if it is on all of them."""
    net, x, planted = mlp()
    report = undying.recycle_(net, probe=[(x[:10], None), (x[10:], None)])
    assert set(report["1"].recycled) >= {1, 4}
    a, _, _ = mlp()
    with torch.no_grad():
        a[0].weight[1], a[0].bias[1] = 0.0, 2.0
    b = copy.deepcopy(a)
    for net, probe in ((a, [x[:10], x[10:]]), (b, x)):
        undying.recycle_(net, probe=probe, units={"1": [1]}, init="kaiming", generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(a.state_dict(), b.state_dict())
    assert planted


def test_compiled_and_distributed_networks_are_changed_inside():
    net, x, planted = mlp()
    before = output(net, x)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    optimizer = torch.optim.Adam(compiled.parameters())
    assert undying.recycle_(compiled, optimizer, probe=x, units=planted).recycled == 5
    assert torch.equal(output(net, x), before)
    with pytest.raises(TypeError, match=r"is in nn\.DataParallel"):
        undying.recycle_(nn.DataParallel(net), probe=x)


def _rank(other, rank, folder):
    rank += other
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    torch.manual_seed(0)
    net, x, planted = mlp()
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.Adam(net.parameters())
    stepped(net, optimizer)
    torch.manual_seed(rank)  # the ranks draw and see what they like
    try:
        undying.recycle_(model, optimizer, probe=x + rank, units={"act": [0]})
        error = "none"
    except ValueError as found:
        error = str(found)
    report = undying.recycle_(model, optimizer, probe=x + rank, units=planted)
    zero = {name: optimizer.state[p]["exp_avg"] == 0 for name, p in net.named_parameters()}
    torch.save((state(net), zero, str(report), error), folder / str(rank))
    torch.distributed.destroy_process_group()


def test_every_rank_does_what_the_first_does(tmp_path):
    child = torch.multiprocessing.spawn(_rank, args=(1, tmp_path), join=False)
    _rank(0, 0, tmp_path)
    while not child.join():
        pass
    (net, zero, report, error), (other, other_zero, other_report, other_error) = (
        torch.load(tmp_path / str(rank)) for rank in range(2)
    )
    assert "which is no site" in error
    assert (report, error) == (other_report, other_error)
    assert same(net, other)
    assert same(zero, other_zero)
    expected = expected_slices(mlp()[0])
    assert all(torch.equal(zero[name], where) for name, where in expected.items())


def test_the_report_is_plain_data_and_a_table():
    net, x, planted = mlp()
    report = undying.recycle_(net, probe=x, units=planted)
    assert json.loads(json.dumps(report.to_dict()))["recycled"] == 5
    assert str(report).splitlines()[1].split() == ["1", "ReLU", "8", "2", "0", "0"]
    assert "<td>ReLU</td>" in report._repr_html_()
    with pytest.raises(KeyError, match="no unit was chosen at a site '2'"):
        report["2"]
