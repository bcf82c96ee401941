"""Sites of a network that chooses which layers to run, against each layer's own count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class Experts(nn.Module):
    """Runs those of its three experts that a sample's first feature names; expert 1 is dead."""

    def __init__(self, shared=None, added=False):
        super().__init__()
        torch.manual_seed(0)
        self.experts = nn.ModuleList(nn.Linear(4, 6) for _ in range(3))
        self.act, self.added = shared, added
        nn.init.constant_(self.experts[1].bias, -99.0)

    def expert(self, number, x):
        h = self.experts[number](x)
        if self.added:
            h = h + x.sum(1, keepdim=True).expand(-1, 6).sort(1).values  # no layer is known
        return F.relu(h) if self.act is None else self.act(h)

    def forward(self, x):
        out = x.new_zeros(len(x), 6)
        for number in x[:, 0].long().unique().tolist():
            mine = x[:, 0].long() == number
            out[mine] = self.expert(number, x[mine])
        return out


def batch(*experts):
    x = torch.rand(30, 4, generator=torch.Generator().manual_seed(sum(experts)))
    x[:, 0] = torch.tensor([experts[i % len(experts)] + 0.5 for i in range(30)])
    return x


DATA = [batch(0, 1, 2), batch(1, 2), batch(0, 2), batch(2, 1)]


def silent(net):
    """By expert."""
    rows = torch.cat(DATA)
    return {f"experts.{n}": (~(net.experts[n](rows[rows[:, 0].long() == n]) > 0).any(0)).tolist() for n in range(3)}


@pytest.mark.parametrize("shared", [None, nn.ReLU()])
@pytest.mark.parametrize("order", [1, -1])
def test_a_site_has_the_units_of_one_layer(shared, order):
    net = Experts(shared)
    counted = undying.census(net, DATA[::order])
    assert {site.layer: site.silent.tolist() for site in counted.sites} == silent(net)
    parts = [undying.census(net, [DATA[0], x]) for x in DATA]
    assert (parts[0] + parts[1])[counted.sites[0].name].layer is not None


def test_in_training_too():
    net, since, memory = Experts(), undying.SinceFired(), undying.Memory()
    with undying.watch(net, every=1, sinks=[since, memory]) as watching:
        for _ in range(3):
            for x in DATA[::-1]:  # the first has experts 1 and 2
                net(x)
                watching.step()
    layers = {site.name: site.layer for site in memory[3].census.sites}
    never = {layers[name]: (quiet.samples == 360).tolist() for name, quiet in since.items()}
    assert never == silent(net)


def test_censuses_whose_names_are_of_other_layers_do_not_go_together():
    net = Experts()
    first, second = undying.census(net, [batch(0)]), undying.census(net, [batch(1)])
    with pytest.raises(ValueError, match=r"'relu' is behind layer experts\.0 in one census and experts\.1"):
        first + second
    with pytest.raises(ValueError, match="different sites"):
        second.since(first, other_probe=True)
    with pytest.raises(ValueError, match="behind layer"):
        undying.recycle_(net, None, first, probe=batch(1))


def test_calls_that_cannot_be_told_apart_are_said():
    with pytest.warns(
        UserWarning, match=r"relu: it is called 2 to 3 times a pass, behind layers that are not followed"
    ):
        undying.census(Experts(added=True), DATA)
    net = Experts(added=True)
    with undying.watch(net, every=1) as watching:
        net(DATA[0])
        watching.step()
        net(DATA[1])
        with pytest.warns(UserWarning, match="cannot tell the calls apart: relu: it is called 2 to 3"):
            watching.step()
