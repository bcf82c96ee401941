"""Training that is not what the probe showed: other calls, other tensors, frozen weights. No living unit is wiped."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import undying
from recycling import Net, die, state
from undying.treat.policies.recycler import Recycler

NOW = undying.ReDo(tau=0.0, every=1)


def recycler(net, x, policy=NOW, optimizer=None, **settings):
    return Recycler(net, optimizer, policy, probe=x, generator=torch.Generator().manual_seed(2), **settings)


def two(forward, **more):
    """A net of a, b, c and aux, with all but the first units of aux dead: a call of it looks dead at other places."""
    net = Net(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 6), c=nn.Linear(6, 2), aux=nn.Linear(4, 6), **more)
    nn.init.constant_(net.a.bias, 9.0)
    nn.init.constant_(net.b.bias, 99.0)
    die(net.aux.bias, 1, 2, 3, 4, 5)
    return net


def aux_first(net, x):
    side = F.relu(net.aux(x)).sum() if net.training else 0.0
    return net.c(F.relu(net.b(F.relu(net.a(x))))) + 0 * side


def aux_instead(net, x):
    return net.c(F.relu(net.b(F.relu(net.aux(x) if net.training else net.a(x)))))


def shared_aux_first(net, x):
    side = net.act(net.aux(x)).sum() if net.training else 0.0
    return net.c(net.act(net.b(net.act(net.a(x))))) + 0 * side


def first_layer_dropped(net, x):
    h = x.repeat(1, 2)[:, :6]
    if not net.training:
        h = F.relu(net.a(x))
    return net.c(F.relu(net.b(h)))


def first_layer_dropped_in_a_checkpoint(net, x):
    if net.training:
        return net.c(checkpoint(lambda y: F.relu(net.aux(y)), x.requires_grad_(), use_reentrant=True))
    return net.c(F.relu(net.b(F.relu(net.a(x)))))


def twice(net, x):
    """The second call alone keeps the units of a alive."""
    other = F.relu(net.a(x)).sum() if net.training else 0.0
    return net.c(F.relu(net.b(F.relu(net.a(x + 0 if net.training else x))))) + 0 * other


@pytest.mark.filterwarnings("ignore:Recycler. nothing was measured at relu#2")
@pytest.mark.parametrize(
    "forward",
    [aux_first, aux_instead, shared_aux_first, first_layer_dropped, first_layer_dropped_in_a_checkpoint, twice],
)
def test_sites_that_training_calls_otherwise_are_left_alone_and_named_once(forward):
    net = two(forward, **({"act": nn.ReLU()} if forward is shared_aux_first else {}))
    x = torch.rand(16, 4)
    with recycler(net.eval(), x) as ours:
        net.train()
        before = state(net)
        for step in range(2):
            net(x)
            if step:
                ours.step()
            else:
                with pytest.warns(UserWarning, match=r"calls (relu|act).* otherwise than on the probe") as said:
                    ours.step()
                assert sum("otherwise" in str(each.message) for each in said) == 1
    assert ours.recycled == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.filterwarnings("ignore:None of the inputs")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("freeze", [False, True])
def test_training_as_on_the_probe_is_recycled(reentrant, freeze):
    """Checkpoints, norms, residuals, methods and frozen layers in front hide no producing layer."""

    def forward(net, x):
        h = F.relu(net.norm(net.a(x))) + net.skip(x)
        return net.c(checkpoint(net.b, h.tanh(), use_reentrant=reentrant).relu())

    net = Net(
        forward,
        a=nn.Linear(4, 6),
        norm=nn.BatchNorm1d(6),
        skip=nn.Linear(4, 6),
        b=nn.Linear(6, 6, bias=False),
        c=nn.Linear(6, 2),
    )
    with torch.no_grad():
        net.b.weight[2] = 0.0
    net.a.requires_grad_(not freeze)
    x = torch.randn(20, 4)
    with recycler(net, x) as ours:
        assert list(ours.sites) == ["tanh", "relu#2"]
        net.train()(x)
        ours.step()
    assert ours.recycled == 1


# Tensors


def pair():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[1].bias[2] = -1e4
    return net, torch.randn(20, 4)


def replace(net):
    net[3] = nn.Linear(6, 2)


def assign(net):
    net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()}, assign=True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (replace, r"3\.weight"),
        (assign, r"0\.weight"),
        (lambda net: net.double(), r"1\.running_mean"),
        (lambda net: net.__setitem__(0, nn.Linear(4, 6)), r"0\.weight"),
    ],
)
def test_tensors_that_were_replaced_are_named_before_anything_is_written(change, name):
    net, x = pair()
    with recycler(net, x) as ours:
        change(net)
        before = state(net)
        net.eval()(x.to(net[0].weight.dtype))
        with pytest.raises(RuntimeError, match=f"'{name}' is another tensor than when this Recycler was made"):
            ours.step()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_running_mean_that_was_replaced_is_given_nothing():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3))
    with recycler(net, torch.randn(9, 3), undying.ContinualBackprop(0.5, 0)) as ours:
        net[3] = nn.BatchNorm1d(3)
        net(torch.randn(9, 3))
        with pytest.raises(RuntimeError, match=r"'3\.running_mean' is another tensor"):
            ours.step()


def test_weights_that_are_loaded_or_trained_stay_the_same_tensors():
    net, x = pair()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with recycler(net, x, optimizer=optimizer) as ours:
        net.load_state_dict(state(net))
        net.eval().to("cpu", torch.float32)(x).sum().backward()
        optimizer.step()
        ours.step()
    assert ours.recycled == 1


# Frozen weights


@pytest.mark.parametrize("frozen", ["1.weight", "3.weight"])
def test_units_whose_weights_are_frozen_are_refused(frozen):
    net, x = pair()
    net.get_parameter(frozen).requires_grad_(False)
    with pytest.raises(ValueError, match=rf"2: 6 of 6 units: .*a parameter of {frozen[0]} \(.*\) is frozen"):
        recycler(net, x)


def test_behind_a_frozen_layer_the_row_of_a_norm_that_is_trained_begins_anew():
    net, x = pair()
    net[0].requires_grad_(False)
    before = net[0].weight.clone(), net[0].bias.clone()
    with recycler(net, x) as ours:
        net(x).square().mean().backward()
        ours.step()
    assert ours.recycled == 1
    assert net[1].bias[2] == 0
    assert torch.equal(net[0].weight, before[0])
    assert torch.equal(net[0].bias, before[1])


def test_of_two_layers_that_make_a_site_the_frozen_one_keeps_its_units():
    net = Net(
        lambda n, x: n.c(F.relu(torch.cat([n.a(x), n.b(x)], 1))),
        a=nn.Linear(4, 2),
        b=nn.Linear(4, 3),
        c=nn.Linear(5, 1),
    )
    net.a.requires_grad_(False)
    die(net.a.bias, 1)
    die(net.b.bias, 1)
    x = torch.randn(9, 4)
    with recycler(net, x) as ours:
        assert list(ours.refused) == ["relu"]
        assert ours.refused["relu"].startswith("2 of 5 units: ")
        assert "a parameter of a (linear) is frozen" in ours.refused["relu"]
        net(x)
        ours.step()
    assert (ours.recycled, float(net.a.bias[1]), ours.sites["relu"].able.tolist()) == (
        1,
        -1e4,
        [False] * 2 + [True] * 3,
    )


def test_weights_that_are_frozen_later_stay():
    net, x = pair()
    with recycler(net, x) as ours:
        net[3].weight.requires_grad_(False)
        before = state(net)
        for step in range(2):
            net.eval()(x)
            if step:
                ours.step()
            else:
                with pytest.warns(UserWarning, match=r"3\.weight is frozen .* no unit of 2 is recycled"):
                    ours.step()
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        net[3].weight.requires_grad_(True)
        net(x)
        ours.step()
    assert ours.recycled == 1


def test_nothing_moves_into_a_frozen_bias():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    net[2].bias.requires_grad_(False)
    before = state(net)["2.bias"]
    with recycler(net, torch.randn(9, 3), undying.ContinualBackprop(0.3, 0)) as ours:
        net(torch.randn(9, 3))
        ours.step()
    assert ours.recycled == 1
    assert torch.equal(net[2].bias, before)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_a_reader_that_is_not_followed_is_heard_within_autocast():
    class Adds(nn.Module):
        def forward(self, h, u):
            return h + u.mean(1, keepdim=True)

    net = Net(
        lambda n, x: n.adds(n.c(F.relu(u := n.a(x))), u),
        a=nn.Linear(4, 6),
        c=nn.Linear(6, 2),
        adds=torch.jit.script(Adds()),
    )
    x = torch.randn(9, 4)
    for enabled in (False, True):
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=enabled),
            pytest.raises(ValueError, match="no unit of Net can"),
        ):
            recycler(net, x)


def test_a_step_within_autocast_leaves_no_copies_of_the_weights():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with (
        recycler(net, x := torch.rand(9, 4), undying.ReDo(tau=0.9, every=1)) as ours,
        torch.autocast("cpu", torch.bfloat16),
    ):
        net(x)
        ours.step()
        within = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), within)
    assert ours.recycled > 0


def test_what_reads_a_unit_in_training_alone_keeps_its_weights():
    """As the docs say: it is not followed."""
    net = Net(
        lambda n, x: n.c(h := F.relu(n.a(x))) + (n.side(h) if n.training else 0),
        a=nn.Linear(4, 6), c=nn.Linear(6, 2), side=nn.Linear(6, 2),
    )  # fmt: skip
    die(net.a.bias, 2)
    before = state(net)
    with recycler(net, x := torch.rand(9, 4)) as ours:
        net.train()(x)
        ours.step()
    assert (net.c.weight[:, 2] == 0).all()
    assert torch.equal(net.side.weight, before["side.weight"])
