"""Which units recycle_ takes, and what it says to what does not fit."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

import undying
from recycling import Net, mlp, same, state


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
    assert same(weights, net.state_dict())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (torch.tensor([1, 0, 1, 0, 0, 0, 0, 0], dtype=torch.uint8), "a uint8 tensor"),
        (torch.tensor([1, 0, 1, 0, 0, 0, 0, 0]), "0 more than once"),
        ([3, 3], "3 more than once"),
        ([True, 3], "both bools and numbers"),
        (torch.zeros(2, 4, dtype=torch.bool), r"shape (2, 4)"),
        (torch.tensor([[1, 2]]), r"shape (1, 2)"),
        (3, "shape ()"),
        ([0.5], "torch.float32"),
        *((given, repr(given)) for given in (None, slice(3), {3}, "dead", [None], [[1], [2, 3]])),
    ],
)
def test_what_may_be_a_mask_or_numbers_and_is_neither_is_refused_by_its_site(given, error):
    net, x, _ = mlp()
    weights = state(net)
    with pytest.raises((TypeError, ValueError), match=f"(?s)site '1'.*{re.escape(error)}.*a bool mask of shape"):
        undying.recycle_(net, probe=x, units={"1": given})
    assert same(weights, net.state_dict())


@pytest.mark.parametrize(
    "given", [[], (1, 4), range(1, 3), np.array([1, 4]), torch.arange(8) == 2, [i == 2 for i in range(8)]]
)
def test_masks_and_numbers_of_many_kinds_are_taken(given):
    net, x, _ = mlp()
    report = undying.recycle_(net, probe=x, units={"1": given}, tolerance=9)
    expected = (2,) if len(given) == 8 else tuple(int(unit) for unit in given)
    assert sum((row.recycled for row in report.rows), ()) == expected


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


def test_a_probe_that_shows_nothing_is_refused_and_says_why():
    net, x, _ = mlp()
    weights = state(net)
    hides = Net(lambda net, x: net.a(x).nan_to_num(), a=net)
    for model, probe, error in [
        (net, x * torch.nan, "no value at site '1' on the probe is a number"),
        (Net(lambda net, x: net.a(x) * torch.nan, a=net), x, "no output of Net on the probe is finite"),
        (net, x[:0], "the probe holds no sample: every output of Sequential is empty"),
        (hides, x * torch.nan, "no value at site 'a.1' on the probe is a number"),
        (
            nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3)),
            x,
            "'0.weight' has no shape yet: run the network once",
        ),
    ]:
        with pytest.raises(ValueError, match=re.escape(error)):
            undying.recycle_(model, probe=probe)
        with pytest.raises(ValueError, match=re.escape(error)):
            undying.Recycler(model, None, undying.ReDo(), probe=probe)
    with pytest.raises(TypeError, match=r"probe must be batches, .* not None"):
        undying.recycle_(net, probe=None)
    assert same(weights, net.state_dict())


def test_sites_that_are_not_counted_are_named():
    net = nn.Sequential(nn.Linear(4, 8), Unfollowed(), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"of any site which units are silent; not counted: 2, .*name it in axes="):
        undying.recycle_(net, None, probe=torch.randn(9, 3, 4))
    report = undying.recycle_(net, None, probe=torch.randn(9, 3, 4), axes={"2": -1})
    assert "not counted" not in str(report)


class Unfollowed(nn.Module):
    def forward(self, x):
        return torch.rot90(x, 2, (0, 1))


def test_an_output_is_no_site_to_recycle():
    net = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(
        ValueError, match=r"sites: none, as no activation.*outputs of a census are counted, not recycled"
    ):
        undying.recycle_(net, None, probe=torch.randn(9, 4), units={"encode": [1]})
