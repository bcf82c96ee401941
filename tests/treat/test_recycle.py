"""recycle_ against what can be told without it: outputs before and after, a planted death, torch's own draws."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from recycling import (
    CASES,
    Net,
    batch_normed,
    by_hand,
    die,
    expected_slices,
    functional_cnn,
    layer_normed,
    mlp,
    output,
    residual,
    same,
    state,
    stepped,
)
from undying.treat.probe import Seen


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
    child = torch.multiprocessing.start_processes(_rank, (1, tmp_path), join=False, start_method="forkserver")
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


def test_an_open_autocast_block_hides_no_change():
    """Autocast keeps copies of the weights, which are as they were before they were changed."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.ones_(net[0].bias)
    x, weights = torch.randn(64, 8), state(net)
    with torch.autocast("cpu", torch.bfloat16):
        net(x)
        report = undying.recycle_(net, probe=x, units={"1": range(12)})
        assert (report.recycled, report.refused) == (0, 12)
        assert same(weights, net.state_dict())
        die(net[0].bias, 3)
        assert undying.recycle_(net, probe=x).recycled == 1
        now = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(now, net(x))
        undying.Recycler(net, None, undying.ReDo(), probe=x).close()
        now = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(now, net(x))


def masked(net, x):
    return net.c(F.relu(net.a(x))).masked_fill(net.mask, -1e9)


def with_large(net, x):
    return net.c(F.relu(net.a(x))), 1e6 + x


@pytest.mark.parametrize("forward", [masked, with_large])
def test_neither_masks_nor_another_output_make_the_tolerance_wide(forward):
    net = Net(forward, a=nn.Linear(8, 16), c=nn.Linear(16, 6))
    net.mask = torch.tensor([True, False] * 3)
    nn.init.ones_(net.a.bias)
    x, weights = torch.randn(64, 8), state(net)
    report = undying.recycle_(net, probe=[x[:40], x[40:]], units={"relu": range(16)})
    assert (report.recycled, report.refused) == (0, 16)
    assert same(weights, net.state_dict())
    largest = net.c(F.relu(net.a(x)))[:, ~net.mask if forward is masked else slice(None)].abs().max().item()
    assert f"allows {0.01 * largest:.3g}" in report["relu"].refused[0]


def test_the_tolerance_is_for_all_sites_together():
    """Five equal branches are added: each site changes the output by the same."""
    a, c = nn.Linear(8, 4), nn.Linear(4, 1)
    parts = {f"{kind}{i}": copy.deepcopy(layer) for i in range(5) for kind, layer in (("a", a), ("c", c))}
    net = Net(
        lambda net, x: sum(getattr(net, f"c{i}")(F.relu(getattr(net, f"a{i}")(x))) for i in range(5)), **parts
    ).double()
    x = torch.randn(100, 8).double()
    before = output(net, x)
    one = undying.recycle_(copy.deepcopy(net), probe=x, units={"relu": [0]}, tolerance=9).change
    units = {name: [0] for name in ("relu", "relu#2", "relu#3", "relu#4", "relu#5")}
    report = undying.recycle_(net, probe=x, units=units, tolerance=2.5 * one / before.abs().max().item())
    change = (output(net, x) - before).abs().max().item()
    assert [row.recycled for row in report.rows] == [(0,), (0,), (), (), ()]
    assert [row.change for row in report.rows] == pytest.approx([one, one, 0, 0, 0])
    assert report.change == report.to_dict()["change"] == pytest.approx(change) == pytest.approx(2 * one)
    assert "by all sites together" in report.rows[2].refused[0]


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([3.0, -4.0, 1.0], 4),
        ([3.0, -1e4], 3),
        ([3.0, -65504.0, torch.nan], 3),
        ([-2.0, torch.finfo(torch.float32).min, -torch.inf, torch.inf], 2),
        ([-1e6, -2e6], 2e6),  # no masks, as there is nothing else
        ([1e6, 1e-3], 1e6),
        ([], 0),
    ],
)
def test_the_size_of_an_output_leaves_masks_out(values, size):
    """Of one tensor, the largest value is that of all columns; of two, each has its own, over all batches."""
    seen = Seen(outputs=[torch.tensor(values), torch.ones(3), torch.zeros(2), torch.full((1,), -7.0)], each=2)
    assert seen.sizes == [size, 7]
