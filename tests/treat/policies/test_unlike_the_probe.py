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
