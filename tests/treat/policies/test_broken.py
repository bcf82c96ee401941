"""What a Recycler is given that is broken, or says nothing."""

import pytest
import torch
from torch import nn

import undying
from recycling import mlp
from undying.treat.policies.recycler import Recycler

NOW = undying.ReDo(tau=0.0, every=1)


def recycler(net, x, policy=NOW):
    return Recycler(net, None, policy, probe=x, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("due"), "lacks 'due'"),
        (lambda s: s.pop("since"), "lacks 'since'"),
        (lambda s: s["since"].update({"1": 8}), "'since', '1'"),
        (lambda s: s.update(settings=3), "'settings' is 3"),
        (lambda s: s.update(random=None), "'random'"),
        (lambda s: s.update(steps="3"), "'steps'"),
        (lambda s: s.update(due=[True]), "'due'"),
        (lambda s: s["sites"].pop("1"), r"'sites'"),
        (lambda s: s["sites"]["1"].pop("age"), r"'sites'.*'1'"),
        (lambda s: s["sites"]["1"].update(age=torch.zeros(3)), r"'sites'.*'1'"),
        (lambda s: s["waiting"].update({"1": torch.zeros(3, dtype=torch.bool)}), "'waiting'"),
    ],
)
def test_a_broken_state_is_refused_and_changes_nothing(change, message):
    net, x, _ = mlp()
    with recycler(net, x, undying.ContinualBackprop()) as ours:
        broken = ours.state_dict()
        broken.update(steps=7, recycled=2)
        broken["sites"]["1"]["looks"] = 5
        before = repr(ours.state_dict())
        change(broken)
        with pytest.raises(ValueError, match=f"the state is broken: .*{message}"):
            ours.load_state_dict(broken)
        assert repr(ours.state_dict()) == before


def test_a_state_of_other_settings_is_refused_by_name():
    net, x, _ = mlp()
    saved = recycler(net, x, undying.ReDo(tau=0.1, every=7)).state_dict()
    ours = recycler(net, x, undying.ReDo(tau=0.0, every=7))
    with pytest.raises(ValueError, match=r"the state is of ReDo with tau=0\.1, and this one has tau=0\.0"):
        ours.load_state_dict(saved)
    del saved["settings"]  # as it was saved before there were any
    saved["steps"] = 4
    ours.load_state_dict(saved)
    assert ours.steps == 4


@pytest.mark.parametrize(
    ("probe", "error", "message"),
    [
        (None, TypeError, "probe must be batches.*, not None"),
        (3, TypeError, "probe must be batches.*, not 3"),
        (torch.zeros(0, 6), ValueError, "the probe holds no sample: every output of Sequential is empty"),
        (torch.full((5, 6), torch.nan), ValueError, "no value at site '1' on the probe is a number"),
    ],
)
def test_probes_that_show_nothing_are_named(probe, error, message):
    net, _, _ = mlp()
    with pytest.raises(error, match=message):
        recycler(net, probe)


def test_lazy_layers_are_to_be_run_first():
    net = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(ValueError, match=r"'0\.weight' has no shape yet: run the network once"):
        recycler(net, torch.randn(5, 4))
    net(torch.randn(5, 4))
    recycler(net, torch.randn(5, 4)).close()


def test_the_gradients_of_two_backward_passes_over_one_graph_are_added_by_size():
    """As the docs say: of g and -g the network is given nothing, and the policy twice the size of g."""
    seen = []

    class Spy(undying.GradientDormancy):
        def choose(self, look):
            seen.append(look.seen.gradient)

    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.rand(5, 3)
    with recycler(net, x, Spy(0.0, 1)) as ours:
        for signs in ([1], [1, -1]):
            net.zero_grad()
            out = net(x).sum()
            for sign in signs:
                (sign * out).backward(retain_graph=True)
            ours.step()
    assert (net[0].weight.grad == 0).all()
    torch.testing.assert_close(seen[1], 2 * seen[0])
