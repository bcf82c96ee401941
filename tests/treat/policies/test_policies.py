"""Each policy against one written for these networks alone: the same units at the same steps, and the same weights."""

import io

import pytest
import torch
import torch.nn.functional as F

import references
import undying

POLICIES = {
    "ReDo": (undying.ReDo, {"tau": 0.3, "every": 20}),
    "GradientDormancy": (undying.GradientDormancy, {"tau": 0.2, "every": 20}),
    "ContinualBackprop": (undying.ContinualBackprop, {"replacement_rate": 0.01, "maturity": 15}),
    "SelfNormalizedResets": (undying.SelfNormalizedResets, {"percentile": 0.9, "window": 25, "longest": 12}),
}
OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "SGD": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.003, centered=True),
}
NETWORKS = {"mlp": references.mlp, "cnn": references.cnn}


class Training:
    """A network that learns labels which change every 50 steps."""

    def __init__(self, network, optimizer="Adam"):
        torch.manual_seed(3)
        self.net, self.shape = NETWORKS[network]()
        with torch.no_grad():
            for layer in self.net.layers[:-1]:
                layer.bias[1] = -2.0
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters())
        self.done = 0

    def batch(self):
        generator = torch.Generator().manual_seed(self.done)
        x = torch.randn(16, *self.shape, generator=generator)
        return x, (x.flatten(1).sum(1) * (1 + self.done // 50)).abs().long() % 3

    def step(self, policy):
        x, y = self.batch()
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(x), y).backward()
        self.optimizer.step()
        policy.step()
        self.done += 1

    def recycler(self, name):
        made, settings = POLICIES[name]
        probe = torch.zeros(4, *self.shape)
        return undying.Recycler(
            self.net, self.optimizer, made(**settings), probe=probe, generator=torch.Generator().manual_seed(7)
        )

    def reference(self, name):
        seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(7)))
        return getattr(references, name)(self.net, self.optimizer, seed, **POLICIES[name][1])


def watched(recycler):
    """Has a Recycler note its choices as the references do."""
    events, recycle = [], recycler._recycle

    def noted(chosen):
        events.append({list(recycler.sites).index(name): found.units.tolist() for name, found in chosen.items()})
        recycle(chosen)

    recycler._recycle = noted
    return events


@pytest.mark.parametrize(
    ("name", "network", "optimizer"),
    [(name, network, "Adam") for name in POLICIES for network in NETWORKS]
    + [("ReDo", "mlp", "SGD"), ("ContinualBackprop", "mlp", "RMSprop")],
)
def test_a_policy_is_its_reference_over_200_steps(name, network, optimizer):
    ours, theirs = Training(network, optimizer), Training(network, optimizer)
    recycler, reference = ours.recycler(name), theirs.reference(name)
    events = watched(recycler)
    for _ in range(200):
        ours.step(recycler)
        theirs.step(reference)
    assert [e for e in events if e] == [e for e in reference.events if e]
    assert recycler.recycled == sum(len(units) for e in events for units in e.values()) > 3
    for a, b in zip(ours.net.parameters(), theirs.net.parameters(), strict=True):
        torch.testing.assert_close(a, b)
        for key, value in ours.optimizer.state[a].items():
            torch.testing.assert_close(value, theirs.optimizer.state[b][key])


@pytest.mark.parametrize("name", POLICIES)
def test_killed_and_resumed_it_goes_on_bit_for_bit(name):
    whole, cut = Training("cnn"), Training("cnn")
    recycler, before = whole.recycler(name), cut.recycler(name)
    for _ in range(120):
        whole.step(recycler)
        cut.step(before) if cut.done < 57 else None
    file = io.BytesIO()
    torch.save([cut.net.state_dict(), cut.optimizer.state_dict(), before.state_dict()], file)
    file.seek(0)
    resumed = Training("cnn")
    torch.manual_seed(99)
    after = resumed.recycler(name)
    for each, state in zip((resumed.net, resumed.optimizer, after), torch.load(file), strict=True):
        each.load_state_dict(state)
    resumed.done = 57
    for _ in range(63):
        resumed.step(after)
    assert after.recycled == recycler.recycled > before.recycled
    assert all(map(torch.equal, resumed.net.parameters(), whole.net.parameters()))
