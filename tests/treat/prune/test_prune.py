"""What prune_ cuts, folds and refuses, on networks small enough to say by hand what is right."""

import copy
import dataclasses
import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from recycling import CASES, Net, all_dead, depthwise, die, mlp, output, same, state

REFUSED = {
    "shuffled": "torch-pruning would cut",
    "concatenated": "torch-pruning would cut",
    "split": "torch-pruning would cut",
    "sliced_parameters": "is given a part of a parameter",
    "by_hand": "no weight of a layer",
    "grouped": "is a convolution in 2 groups",
    "transposed": "is a convolution in 3 groups",
    "dense": "not followed|torch-pruning",
    "layer_normed": "layer_norm. mixes it with others",
    "group_normed": "group_norm. mixes it with others",
}
"""What stands in the way, in the cases of recycling of which nothing can be cut."""


def pruned(net, x, **options):
    return undying.prune_(net, undying.census(net, x), x, **options)


def close(a, b, tolerance=1e-5):
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_silent_units_go_and_the_outputs_stay(case):
    net, x, planted = case()
    before, weights, modes = output(net, x), state(net), [m.training for m in net.train().modules()]
    report = pruned(net, x, data=x)
    assert [m.training for m in net.modules()] == modes
    assert close(output(net, x), before)
    silent = {(name, unit) for name, units in planted.items() for unit in units}
    assert len(report) == len(report.rows)
    cut = {(row.name, unit) for row in report for unit in row.cut}
    if case.__name__ in REFUSED:
        assert not cut
        assert same(weights, net.state_dict())
        assert all(re.search(REFUSED[case.__name__], report[name].refused[unit]) for name, unit in silent), report
    elif case is all_dead:
        assert cut == {(site, unit) for site in ("1", "3") for unit in (1, 2, 3)}
    elif case is depthwise:
        assert cut >= {("2", 1), ("2", 2), ("5", 1), ("5", 2)}
        assert "2, which goes with it, gives something to 3" in report["5"].refused[5]
    else:
        assert cut >= silent, report
    assert report.after.parameters == sum(p.numel() for p in net.parameters())
    assert report.before.parameters == sum(w.numel() for n, w in weights.items() if not re.search("running|tracked", n))


def test_exactly_the_rows_and_columns_of_the_units_are_gone():
    net, x, _ = mlp()
    old = state(net)
    report = pruned(net, x)
    a, b = [0, 2, 3, 5, 6, 7], [1, 2, 3, 4, 6, 7]  # what mlp does not plant
    assert torch.equal(net[0].weight, old["0.weight"][a])
    assert torch.equal(net[0].bias, old["0.bias"][a])
    assert torch.equal(net[2].weight, old["2.weight"][b][:, a])
    assert torch.equal(net[2].bias, old["2.bias"][b])
    assert torch.equal(net[4].weight, old["4.weight"][:, b])
    assert torch.equal(net[4].bias, old["4.bias"])
    assert (net[2].in_features, net[2].out_features) == (6, 6)
    assert report.before.parameters - report.after.parameters == 2 * 7 + 3 * 9 + 2 * 6 + 3 * 3
    assert report.after.flops == 2 * 40 * (6 * 6 + 6 * 6 + 6 * 3)
    assert report.after.bytes == 4 * report.after.parameters


def test_a_layer_that_is_dead_as_a_whole_keeps_one_unit():
    net, x, _ = all_dead()
    report = pruned(net, x)
    assert report.whole == {"0": 4, "2": 4}
    assert "0: all 4 units could go; one is left" in str(report)
    assert (net[0].out_features, net[2].in_features, net[2].out_features) == (1, 1, 1)


# ---------------------------------------------------------------------------------------------------------------------
# Constants


def constant(layer, unit, value):
    """A unit without weights."""
    with torch.no_grad():
        layer.weight[unit] = 0
        layer.bias[unit] = value


def saturated_relu6():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU6(), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].bias[2] = 100.0
    return net, torch.randn(30, 4), ("1", 2)


def ends_of_hardtanh():
    net = nn.Sequential(nn.Linear(4, 6), nn.Hardtanh(-2.0, 1.0), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].bias[5] = -100.0
    return net, torch.randn(30, 4), ("1", 5)


def full_sigmoid():
    net = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].bias[1] = 100.0
    return net, torch.randn(30, 4), ("1", 1)


def without_weights():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    constant(net[0], 3, 2.0)
    return net, torch.randn(30, 4), ("1", 3)


def through_pooling():
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    with torch.no_grad():
        net[1].weight[4], net[1].bias[4] = 0.0, 1.5
    return net, torch.randn(8, 2, 8, 8), ("2", 4)


def into_a_running_mean():
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip
    constant(net[0], 1, 3.0)
    return net, torch.randn(8, 2, 4, 4), ("1", 1)


def into_a_new_bias():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
    constant(net[0], 1, 3.0)
    return net, torch.randn(30, 4), ("1", 1)


def behind_a_norm():
    """The norm gives something else than 0 for a unit that is 0."""
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    nn.init.uniform_(net[2].bias, 1, 2)
    die(net[0].bias, 2)
    return net, torch.randn(30, 4), ("1", 2)


FOLDED = [
    saturated_relu6, ends_of_hardtanh, full_sigmoid, without_weights, through_pooling, into_a_running_mean,
    into_a_new_bias, behind_a_norm,
]  # fmt: skip


@pytest.mark.parametrize("case", FOLDED, ids=lambda case: case.__name__)
def test_a_constant_moves_into_what_is_added_behind(case):
    net, x, (site, unit) = case()
    buffers = {name for name, _ in net.named_buffers()}
    before = output(net, x)
    report = pruned(net, x, data=x)
    assert unit in report[site].cut
    assert (unit in report[site].folded) == (case is not behind_a_norm)
    assert close(output(net, x), before)
    assert {name for name, _ in net.named_buffers()} == buffers
    assert net[-1].bias is not None
    assert ("bias" in report.recipe["modules"].get("2", {})) == (case is into_a_new_bias)
    other = (
        torch.randn_like(x) if case in (without_weights, through_pooling, into_a_running_mean, into_a_new_bias) else x
    )
    torch.manual_seed(3)
    fresh, _, _ = case()
    undying.apply_recipe_(fresh, json.loads(json.dumps(report.recipe)))
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(output(fresh, other), output(net, other))


def test_a_constant_without_weights_is_folded_for_every_input():
    net, x, _ = without_weights()
    whole = copy.deepcopy(net)
    pruned(net, x)
    other = 5 * torch.randn(100, 4)
    assert close(output(net, other), output(whole, other))


def test_what_sigmoid_gives_near_its_end_is_not_constant():
    net, x, _ = full_sigmoid()
    nn.init.constant_(net[0].bias[1:2], 8.0)
    report = pruned(net, x, data=x)
    assert not report.cut
    assert "saturated Sigmoid is near an end" in report["1"].refused[1]


def test_padding_with_zeros_and_a_constant_do_not_go_together():
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1))
    constant(net[0], 1, 3.0)
    die(net[0].bias, 2)
    x = torch.randn(8, 2, 6, 6)
    before = output(net, x)
    report = pruned(net, x, data=x)
    assert report["1"].cut == (2,)
    assert "2 (conv2d) pads with 0" in report["1"].refused[1]
    assert close(output(net, x), before)


@pytest.mark.parametrize("pad", [nn.ZeroPad2d(1), nn.ConstantPad2d(1, 2.0)], ids=["zeros", "twos"])
def test_padding_by_a_layer_of_its_own_is_seen(pad):
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), pad, nn.Conv2d(6, 4, 3))
    constant(net[0], 1, 3.0)
    die(net[0].bias, 2)
    x = torch.randn(8, 2, 6, 6)
    report = pruned(net, x, data=x)
    assert report["1"].cut == ((2,) if isinstance(pad, nn.ZeroPad2d) else ())
    why = "gives something to 3 (conv2d)" if isinstance(pad, nn.ZeroPad2d) else "2 (pad) pads it with 2.0"
    assert why in report["1"].refused[1]


def test_units_that_fire_stay_though_dull_data_do_not_tell_their_values_apart():
    net, _, _ = mlp()
    dull = torch.ones(16, 6)
    silent = {site.name: site.silent.nonzero().flatten().tolist() for site in undying.census(net, dull).sites}
    report = pruned(net, dull, data=dull)
    assert {row.name: list(row.cut) for row in report.rows} == silent


def test_the_example_is_left_as_it_was():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    die(net[1].bias, 2)
    x = torch.randn(20, 6)
    given, counted = x.clone(), undying.census(net, x.clone())
    assert undying.prune_(net, counted, x, data=x, rounds=1)["2"].cut == (2,)
    assert torch.equal(x, given)


def test_units_that_data_of_others_show_constant_stay():
    """A census of other data does not say so."""
    net, x, _ = full_sigmoid()
    counted = undying.census(net, torch.randn(30, 4))
    report = undying.prune_(net, counted, x, data=x)
    assert not report.cut
    assert "the data are not those of the census" in str(report)


# ---------------------------------------------------------------------------------------------------------------------
# What must not be cut


def leaky(kind):
    net = nn.Sequential(nn.Linear(4, 6), kind, nn.Linear(6, 3))
    die(net[0].bias, 1)
    return net, "1", "not constant below 0"


def residual():
    def forward(net, x):
        h = F.relu(net.a(x))
        return net.c(h + net.b(h))

    net = Net(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    return net, "relu", r"Net, which goes with it|Net \(add\), which goes with it, gives something to c"


def returned():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    die(net[0].bias, 1)
    return net, "1", "the network returns it"


def softmaxed():
    net = Net(lambda net, x: net.c(F.softmax(F.relu(net.a(x)), -1)), a=nn.Linear(4, 4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    return net, "relu", r"Net \(softmax\) reads it"


def normed():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 2))
    die(net[0].bias, 1)
    return net, "1", r"2 \(layer_norm\) mixes it with others"


def plain_norm():
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([1.0, -5.0, 2.0, 3.0]))
    return net, "2", r"1 \(layer_norm\) mixes it with others"


def parametrized():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2))
    die(net[0].bias, 1)
    return net, "1", r"0 \(linear\) is computed \(parametrized"


def tied():
    net = Net(lambda net, x: F.linear(F.relu(net.a(x)), net.a.weight.t()), a=nn.Linear(4, 6))
    die(net.a.bias, 1)
    return net, "relu", "is given a part of a parameter|another layout"


def twice():
    def forward(net, x):
        for _ in range(2):
            x = net.down(net.act(net.up(x)))
        return x

    net = Net(forward, up=nn.Linear(4, 6), act=nn.ReLU(), down=nn.Linear(6, 4))
    with torch.no_grad():  # silent at the first call alone
        net.up.weight[1], net.up.bias[1] = torch.tensor([1.0, 0, 0, 0]), -50.0
        net.down.weight[0], net.down.bias[0] = 0.0, 1e3
    return net, "act", "act#2, which goes with it, gives something to down"


def regularized():
    net = Net(
        lambda net, x: net.c(F.relu(net.a(x))) + net.a.weight.square().sum(), a=nn.Linear(4, 4), c=nn.Linear(4, 2)
    )
    die(net.a.bias, 1)
    return net, "relu", r"also read by Net \(square\)"


def scaled():
    net = Net(lambda net, x: net.c(F.relu(net.a(x)) * net.gamma), a=nn.Linear(4, 4), c=nn.Linear(4, 2))
    net.register_buffer("gamma", torch.randn(4))
    die(net.a.bias, 1)
    return net, "relu", r"Net \(mul\) takes it with a tensor of its size"


def own_slopes():
    net = Net(lambda net, x: net.c(net.p(F.relu(net.a(x)))), a=nn.Linear(4, 4), p=nn.PReLU(4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    return net, "relu", "the activation p has weights of its own"


def sizes_by_number():
    net = Net(lambda net, x: net.c(F.relu(net.a(x)).view(-1, 2, 3).flatten(1)), a=nn.Linear(4, 6), c=nn.Linear(6, 2))
    die(net.a.bias, 1)
    return net, "relu", "without it the network fails|torch-pruning"


def halves():
    def forward(net, x):
        a, b = F.relu(net.a(x)).chunk(2, -1)
        return net.b(a) + net.c(b)

    net = Net(forward, a=nn.Linear(4, 8), b=nn.Linear(4, 2), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    return net, "relu", "torch-pruning|without it"


def convolved_by_hand():
    net = Net(lambda net, x: net.c(F.relu(torch.einsum("bi,oi->bo", x, net.w) - 1e3)), c=nn.Linear(4, 2))
    net.w = nn.Parameter(torch.randn(4, 4))
    return net, "relu", "not followed"


def attended():
    def forward(net, x):
        h = F.relu(net.a(x))[:, None].expand(-1, 3, -1)
        return net.c(F.scaled_dot_product_attention(h, h, h)[:, 0])

    net = Net(forward, a=nn.Linear(4, 4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    return net, "relu", "scaled_dot_product_attention.* reads it"


KEPT = [
    lambda: leaky(nn.GELU()), lambda: leaky(undying.BAReLU()), lambda: leaky(nn.SiLU()), residual, returned, softmaxed,
    normed, plain_norm, parametrized, tied, twice, regularized, scaled, own_slopes, sizes_by_number, halves, convolved_by_hand,
    attended,
]  # fmt: skip


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.__name__)
def test_what_cannot_go_is_refused_by_name_and_stays(case):
    net, site, reason = case()
    x = torch.randn(30, 4)
    weights = state(net)
    report = pruned(net, x)
    assert re.search(reason, report[site].refused[1]), report[site].refused
    assert not report.cut
    assert same(weights, net.state_dict())
    assert report.recipe["modules"] == {}


@pytest.mark.parametrize("kind", [nn.LeakyReLU(), nn.PReLU()], ids=str)
def test_activations_that_are_never_silent_are_never_cut(kind):
    net, _, _ = leaky(kind)
    x = torch.randn(30, 4)
    before = output(net, x)
    assert pruned(net, x, data=x).cut == 0
    assert torch.equal(output(net, x), before)


def test_gates_and_what_they_gate_go_together():
    """As in squeeze and excitation: 0 times anything is 0."""

    def forward(net, x):
        h = F.relu(net.conv(x))
        gate = torch.sigmoid(net.up(F.relu(net.down(h.mean((2, 3), keepdim=True)))))
        return net.last((h * gate).amax((2, 3)))

    convs = {"conv": nn.Conv2d(3, 6, 1), "down": nn.Conv2d(6, 5, 1), "up": nn.Conv2d(5, 6, 1)}
    net = Net(forward, **convs, last=nn.Linear(6, 2))
    die(net.conv.bias, 1)
    x = torch.randn(9, 3, 5, 5)
    before = output(net, x)
    report = pruned(net, x)
    assert report["relu"].cut == (1,)
    assert (net.up.out_channels, net.last.in_features, net.down.in_channels) == (5, 5, 5)
    assert close(output(net, x), before)


def test_a_branch_that_runs_in_training_alone_is_seen():
    def forward(net, x):
        h = F.relu(net.a(x))
        return net.b(h) + net.aux(h) if net.training else net.b(h)

    net = Net(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2), aux=nn.Linear(6, 2))
    die(net.a.bias, 1)
    report = pruned(net, torch.randn(30, 4))
    assert "fails in training mode" in report["relu"].refused[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_reader_that_no_mode_shows_is_seen():
    hidden = torch.jit.trace(lambda h: h.mean(-1, keepdim=True), torch.randn(30, 4))
    net = Net(lambda net, x: net.c(h := F.relu(net.a(x))) + hidden(h.detach()), a=nn.Linear(4, 4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    x = torch.randn(30, 4)
    weights = state(net)
    with pytest.raises(
        RuntimeError, match=r"would change by .* and tolerance=1e-05 allows 1e-05: the evidence is not of"
    ):
        pruned(net, x)
    assert same(weights, net.state_dict())
    assert net.a.out_features == 4


def test_rounding_beyond_the_tolerance_is_told_from_a_change():
    # So many that without every other one no processor adds them up in the same order.
    net, x = nn.Sequential(nn.Linear(6, 3000), nn.ReLU(), nn.Linear(3000, 1)), torch.randn(40, 6)
    die(net[0].bias, *range(0, 3000, 2))
    weights = state(net)
    with pytest.raises(
        RuntimeError, match=r"it is rounding, as in float64 .* a larger tolerance loses nothing; nothing was"
    ):
        pruned(net, x, tolerance=1e-12)
    assert same(weights, net.state_dict())


# ---------------------------------------------------------------------------------------------------------------------
# Evidence, proof, wrappers


def changed(net):
    with torch.no_grad():
        net[0].bias[1] = 5.0
        net[0].bias[4] = 0.5


@pytest.mark.parametrize("change", [changed, lambda net: net.double(), lambda net: net[4].reset_parameters()])
@pytest.mark.parametrize("kind", ["census", "certificate"])
def test_evidence_of_other_weights_is_refused(change, kind):
    net, x, _ = mlp()
    evidence = (
        undying.census(net, x) if kind == "census" else undying.certify(net, (-torch.ones(1, 6), torch.ones(1, 6)))
    )
    change(net)
    weights = state(net)
    with pytest.raises(ValueError, match=f"the {kind} is of other weights than the network has now; c[a-z]+ again"):
        undying.prune_(net, evidence, x.to(net[0].weight.dtype))
    assert same(weights, net.state_dict())


def test_evidence_that_does_not_say_of_which_weights_is_tried():
    """A file of before, or the sum of two ranks' censuses."""
    net, x, _ = mlp()
    counted = dataclasses.replace(undying.census(net, x), weights=None)
    changed(net)
    before = output(net, x)
    report = undying.prune_(net, counted, x)
    assert all("the weights or the data are others now" in report["1"].refused[unit] for unit in (1, 4))
    assert "the census does not say of which weights it is" in str(report)
    assert close(output(net, x), before)


def by_the_data():
    """A network with a branch that the example does not take, which reads the units by their number."""

    def forward(net, x):
        h = F.relu(net.a(x))
        return net.b(h) if x.mean() < 3 else net.c(h)

    net = Net(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2), c=nn.Linear(6, 2))
    die(net.a.bias, 1)
    return net, torch.randn(9, 4)


def test_a_branch_that_only_other_data_take_is_told_with_its_batch():
    net, x = by_the_data()
    data = [x, x + 5]
    counted, weights = undying.census(net, data), state(net)
    with pytest.raises(RuntimeError, match=r"fails on batch 1 of data.* than on the example, .*; nothing was changed"):
        undying.prune_(net, counted, x, data=data)
    assert same(weights, net.state_dict())
    assert net.a.out_features == 6


def test_what_is_said_to_hold_is_what_was_compared():
    net, x = by_the_data()
    report = undying.prune_(net, undying.census(net, [x, x + 5]), x)
    assert report.holds.startswith("The outputs stay the same on the example, but")
    assert "where its forward pass depends on the data, data= compares it" in report.holds
    assert "of the census" not in report.holds
    net, x, _ = mlp()
    counted = undying.census(net, x)
    report = undying.prune_(copy.deepcopy(net), counted, x, data=[x, x])
    assert report.holds == "The outputs stay the same on the data that were given, but for rounding."
    report = undying.prune_(net, counted, x[:3], data=x)
    assert report.holds == "The outputs stay the same on the data of the census, but for rounding."


def test_data_on_which_a_unit_fires_are_heard():
    net, x, _ = mlp()
    with torch.no_grad():
        net[0].bias[1] = -100.0
    loud = torch.cat([x, 1e4 * torch.randn(4, 6)])
    report = undying.prune_(net, undying.census(net, x), x, data=[x, loud])
    assert "not constant on the data" in report["1"].refused[1]


def test_evidence_of_another_network_is_an_error():
    net, x, _ = mlp()
    counted = undying.census(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), x)
    with pytest.raises(ValueError, match="of other weights"):
        undying.prune_(net, counted, x)
    with pytest.raises(ValueError, match=r"the network has a site|which the network does not have"):
        undying.prune_(net, dataclasses.replace(counted, weights=None), x)
    with pytest.raises(TypeError, match=r"must be an undying.Census or an undying.Certificate"):
        undying.prune_(net, "silent", x)
    with pytest.raises(TypeError, match="example must be an input"):
        undying.prune_(net, undying.census(net, x), None)


def test_sites_that_the_census_skips_stay():
    net, x, _ = mlp()
    report = undying.prune_(net, undying.census(net, x, skip="1"), x)
    assert [row.name for row in report.rows] == ["3"]


def test_data_may_be_an_iterator_and_batches_with_targets():
    net, x, _ = mlp()
    batches = [(x[:20], torch.zeros(20)), (x[20:], torch.zeros(20))]
    report = undying.prune_(net, undying.census(net, batches), x[:5], data=iter(batches))
    assert report.cut == 5
    assert report.batches == 3
    with pytest.raises(ValueError, match="data gave no batch"):
        undying.prune_(net, undying.census(net, x), x, data=[])


def test_wrapped_and_compiled_networks_are_refused():
    net, x, _ = mlp()
    counted = undying.census(net, x)
    with pytest.raises(ValueError, match=r"prune_ cannot change the network.*compile"):
        undying.prune_(torch.compile(net), counted, x)
    with pytest.raises(ValueError, match="DataParallel"):
        undying.prune_(nn.DataParallel(net), counted, x)


def test_rows_that_torch_pruning_cuts_by_mistake_are_found(monkeypatch):
    from torch_pruning.pruner.function import LinearPruner

    right = LinearPruner.prune_in_channels

    def wrong(self, layer, idxs):
        return right(self, layer, [(i + 1) % layer.in_features for i in idxs])

    monkeypatch.setattr(LinearPruner, "prune_in_channels", wrong)
    net, x, _ = mlp()
    weights = state(net)
    report = pruned(net, x)
    assert not report.cut
    assert "torch-pruning leaves other rows of 2 than those that were to stay" in report["1"].refused[1]
    assert same(weights, net.state_dict())


def test_without_torch_pruning_the_way_out_is_said(monkeypatch):
    net, x, _ = mlp()
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(Exception, match=r"undying\[prune\]"):
        pruned(net, x)


def test_sugar_is_pruned_as_relu_and_frozen_weights_are_cut():
    net, x, planted = mlp()
    undying.convert_(net, undying.SUGAR())
    for p in net.parameters():
        p.requires_grad_(False)
    before = output(net, x)
    report = pruned(net, x)
    assert {row.name: list(row.cut) for row in report.rows} == planted
    assert not any(p.requires_grad for p in net.parameters())
    assert close(output(net, x), before)


def test_gradients_attributes_and_memory_layout_of_parameters_stay():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
    die(net[0].bias, 1)
    x = torch.randn(4, 3, 8, 8)
    net(x).sum().backward()
    gradient = net[2].weight.grad.clone()
    net[2].weight.tag = "mine"
    pruned(net, x)
    assert torch.equal(net[2].weight.grad, gradient[:, [0, 2, 3, 4, 5, 6, 7]])
    assert net[2].weight.tag == "mine"
    assert net[2].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_that_are_cut_are_told(register):
    """They may hold the old parameter, or its shape."""
    net, x, _ = mlp()
    called = []
    for parameter in (net[0].weight, net[4].bias):  # of which one is cut
        getattr(parameter, register)(lambda _: called.append(1))
    net[0].register_forward_hook(lambda *_: called.append("module"))
    report = pruned(net, x)
    assert report.notes == ("hooks on parameters that were cut are gone, register them again: 0.weight",)
    called.clear()
    net(x).sum().backward()
    assert called == ["module", 1]


def test_a_network_can_be_pruned_again():
    net, x, _ = mlp()
    first = pruned(net, x)
    die(net[0].bias, 0)
    second = pruned(net, x)
    assert second["1"].cut == (0,)
    fresh, _, _ = mlp()
    for report in (first, second):
        undying.apply_recipe_(fresh, report.recipe)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(output(fresh, x), output(net, x))


def test_half_precision_is_held_to_its_own_rounding():
    net, x, _ = mlp()
    net.bfloat16()
    assert pruned(net, x.bfloat16()).cut == 5


def test_nothing_to_cut_changes_nothing():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.constant_(net[0].bias, 1.0)
    x = torch.randn(50, 6)
    parameters = [id(p) for p in net.parameters()]
    report = pruned(net, x)
    assert (report.cut, report.change, report.recipe["modules"]) == (0, 0.0, {})
    assert [id(p) for p in net.parameters()] == parameters
    assert str(report).startswith("nothing to cut")


def test_latency_is_measured_in_turn_and_names_the_device():
    net, x, _ = mlp()
    report = pruned(net, x, rounds=12)
    measured = report.latency
    assert measured.device.startswith("cpu, ")
    assert measured.rounds == 12
    assert measured.low <= measured.ratio <= measured.high
    assert measured.ratio == pytest.approx(measured.before / measured.after)
    assert "measured on cpu" in str(report)


def test_the_report_is_plain_data(tmp_path):
    net, x, _ = mlp()
    report = pruned(net, x, rounds=2)
    report.save(tmp_path / "report.json")
    report.save_recipe(tmp_path / "recipe.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["kind"] == "undying.PruneReport"
    assert content["cut"] == 5
    assert content["after"]["parameters"] == report.after.parameters
    assert [row["cut"] for row in content["rows"]] == [[1, 4], [0, 5, 8]]
    assert json.loads((tmp_path / "recipe.json").read_text()) == report.recipe == content["recipe"]
    assert report._repr_html_().startswith("<table>")
