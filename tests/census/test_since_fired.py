"""Steps and samples since a unit fired, against a count by hand."""

import contextlib
import pickle

import pytest
import torch
from torch import nn

import undying


def test_every_unit_is_counted_from_its_last_firing():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2))
    with torch.no_grad():
        net[0].bias -= 1.5  # they fire now and then
    optimizer, since = torch.optim.SGD(net.parameters(), 0.05), undying.SinceFired()
    steps, samples = torch.zeros(12, dtype=torch.int64), torch.zeros(12, dtype=torch.int64)
    with undying.watch(net, optimizer, every=1, sinks=since):
        for step in range(40):
            x = torch.randn(1 + step % 4, 3)
            fired = (net[0](x) > 0).any(0)
            steps, samples = torch.where(fired, 0, steps + 1), torch.where(fired, 0, samples + len(x))
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            assert torch.equal(since["1"].records, steps)
            assert torch.equal(since["1"].samples, samples)
    assert 0 < int((samples > 20).sum()) < 12
    assert torch.equal(since.dead(20)["1"], samples >= 20)
    report = undying.recycle_(net, optimizer, probe=torch.randn(50, 3), units=since.dead(20), tolerance=1.0)
    assert report["1"].units == 12


class Experts(nn.Module):
    """Sends each sample to one of two experts, by a bound that a test moves."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)) for _ in range(2))
        self.bound = 0.0

    def forward(self, x):
        chosen, out = (x[:, 0] > self.bound).long(), x.new_zeros(len(x), 1)
        for number, expert in enumerate(self.experts):
            if (chosen == number).any():
                out[chosen == number] = expert(x[chosen == number])
        return out


def test_the_clock_goes_on_where_a_site_is_not_called():
    torch.manual_seed(0)
    net, x = Experts(), torch.randn(20, 4)
    optimizer, since = torch.optim.SGD(net.parameters(), 0.0), undying.SinceFired()
    with undying.watch(net, optimizer, every=1, sinks=since):
        for step in range(40):
            net.bound = 0.0 if step < 10 else 99.0
            net(x).sum().backward()
            optimizer.step()
    fires = (net.experts[1][0](x[x[:, 0] > 0]) > 0).any(0)
    assert fires.any()
    assert set(since) == {"experts.0.1", "experts.1.1"}
    assert since["experts.1.1"].samples.tolist() == [600 if unit else 800 for unit in fires.tolist()]
    assert since["experts.1.1"].records.tolist() == [30 if unit else 40 for unit in fires.tolist()]
    assert since.dead(600)["experts.1.1"].all()


def dense(dead):
    """Four units that fire for everything but ``dead``."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.zeros_(net[0].weight)
    net[0].bias.data = torch.ones(4)
    net[0].bias.data[dead] = -9.0
    return net


def test_of_two_networks_each_needs_its_own():
    actor, critic, since = dense(0), dense(1), undying.SinceFired()
    with undying.watch(actor, every=1, sinks=since), pytest.raises(ValueError, match="counts another Sequential"):
        undying.watch(critic, every=1, sinks=since)
    with undying.watch(actor, every=1, sinks=since) as watching:  # goes on
        actor(torch.rand(5, 4))
        watching.step()
    assert pickle.loads(pickle.dumps(since))["1"].samples.tolist() == [5, 0, 0, 0]


def test_parts_that_see_the_same_samples_count_them_once():
    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor, self.critic = dense(0), dense(1)

    agent, since = Agent(), undying.SinceFired()
    with undying.watch(agent, every=1, sinks=since) as watching:
        for step in range(4):
            agent.actor(torch.rand(50, 4))
            with pytest.warns(UserWarning, match="calls parts of Agent") if step == 0 else contextlib.nullcontext():
                agent.critic(torch.rand(50, 4))
            watching.step()
    assert since["actor.1"].samples.tolist() == [200, 0, 0, 0]
    assert since["critic.1"].samples.tolist() == [0, 200, 0, 0]


def test_nan_is_no_silence_and_tokens_are_positions():
    net, since = dense(0), undying.SinceFired()
    net[0].bias.data[3] = torch.nan
    with undying.watch(net, every=1, sinks=since) as watching:
        for _ in range(2):
            net(torch.rand(4, 100, 4))
            watching.step()
    assert since["1"].samples.tolist() == [8, 0, 0, 0]
    assert since["1"].positions.tolist() == [800, 0, 0, 0]
    assert since.dead(positions=800)["1"].tolist() == [True, False, False, False]
    with pytest.raises(TypeError, match="not both"):
        since.dead(8, positions=800)


class TopK(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 32), nn.Linear(32, 6)

    def encode(self, x):
        return torch.topk(self.encoder(x), 3)

    def forward(self, x):
        values, indices = self.encode(x)
        return self.decoder(values.new_zeros(len(x), 32).scatter(1, indices, values))


@pytest.mark.parametrize("call", ["model", "method", "method, named"])
def test_latents_that_no_activation_makes(call):
    torch.manual_seed(0)
    net, since, quiet = TopK(), undying.SinceFired(), torch.zeros(32, dtype=torch.int64)
    outputs = {"encode": lambda out: undying.Indexed(*out, units=32)}
    settings = {"method": "encode"} if "named" in call else {}
    with undying.watch(net, every=1, sinks=since, outputs=outputs, **settings) as watching:
        for _ in range(20):
            x = torch.randn(2, 6)
            values, indices = torch.topk(net.encoder(x), 3)
            fired = torch.zeros(2, 32).scatter(1, indices, values).gt(0).any(0)
            quiet = torch.where(fired, 0, quiet + 2)
            net(x) if call == "model" else net.encode(x)
            watching.step()
            assert torch.equal(since["encode"].samples, quiet)
    assert 0 < int((quiet > 10).sum()) < 32
    assert "encode" not in vars(net)
    assert net.encode.__func__ is TopK.encode


def test_outputs_that_cannot_be_counted_end_no_training():
    net, memory = nn.Sequential(TopK(), nn.ReLU()), undying.Memory()
    with undying.watch(net, every=1, sinks=memory, outputs="0.encode") as watching:
        net(torch.randn(2, 6))
        with pytest.warns(UserWarning, match="left out: 0.encode: .* a topk of 2; name a function"):
            watching.step()
        net(torch.randn(2, 6))
        watching.step()
    assert [[*record.census] for record in memory] == [["1"], ["1"]]
    assert [*memory[1].left_out] == ["0.encode"]
