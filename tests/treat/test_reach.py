"""What cannot be recycled without changing the network is refused by name."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from recycling import Net, die, same, state, stepped


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


def refused_frozen():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    return net, "1", r"a parameter of 0 \(linear\) is frozen \(requires_grad is False\)"


def refused_frozen_behind():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net[2].weight.requires_grad_(False)
    return net, "1", r"a parameter of 2 \(linear\) is frozen \(requires_grad is False\)"


def refused_frozen_bias():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.ones_(net[0].bias)
    net[2].bias.requires_grad_(False)
    return net, "1", r"says something to 2 \(linear\), which has no bias of its own that may change"


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


@pytest.mark.parametrize(
    "case", [c for c in REFUSED if c not in (refused_without_bias, refused_frozen_bias)], ids=lambda case: case.__name__
)
def test_a_recycler_refuses_the_same(case):
    net, site, reason = case()
    try:
        with undying.Recycler(net, None, undying.ReDo(), probe=torch.randn(30, 4)) as recycler:
            refused = recycler.refused[site]
            assert site not in recycler.sites
    except ValueError as error:
        refused = str(error)
    assert re.search(reason, refused), refused


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_reader_that_no_mode_shows_is_seen_by_the_outputs():
    """Within the tolerance too: where units gave 0, nothing may change."""
    hidden = torch.jit.script(nn.Linear(4, 2))
    net = Net(lambda net, x: net.c(h := F.relu(net.a(x))) + 1e-3 * hidden(h), a=nn.Linear(4, 4), c=nn.Linear(4, 2))
    die(net.a.bias, 1)
    weights = state(net)
    report = undying.recycle_(net, probe=torch.randn(30, 4), units={"relu": [1]})
    assert "something that is not followed reads it" in report["relu"].refused[1]
    with pytest.raises(ValueError, match="something that is not followed reads it"):
        undying.Recycler(net, None, undying.ReDo(), probe=torch.randn(30, 4))
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
