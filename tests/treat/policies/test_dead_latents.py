"""DeadLatents against a brute-force count of who fired, and against the weights that resampling is to give."""

import copy
import io

import pytest
import torch
from torch import nn

import undying


class Autoencoder(nn.Module):
    def __init__(self, act=None, width=5, latents=24):
        super().__init__()
        self.encoder, self.act, self.decoder = nn.Linear(width, latents), act or nn.ReLU(), nn.Linear(latents, width)
        with torch.no_grad():
            self.encoder.bias[[2, 7]] = -50.0

    def forward(self, x):
        return self.decoder(self.act(self.encoder(x)))


class Training:
    def __init__(self, window=120, make=Autoencoder):
        torch.manual_seed(1)
        self.net, self.x = make(), torch.randn(400, 5)
        self.optimizer = torch.optim.Adam(self.net.parameters(), 0.02)
        self.recycler = undying.Recycler(
            self.net,
            self.optimizer,
            undying.DeadLatents(window),
            probe=self.x[:200],
            generator=torch.Generator().manual_seed(7),
        )
        self.done = 0

    def step(self):
        batch = self.x[torch.randint(400, (30,), generator=torch.Generator().manual_seed(self.done))]
        self.optimizer.zero_grad()
        latents = self.net.act(self.net.encoder(batch))
        fired = (latents > 0).any(0)
        # A heavy penalty, under which latents die.
        penalty = 0.2 * self.net.act(self.net.encoder(batch)).sum(1).mean() if self.done > 4 else 0.0
        ((self.net(batch) - batch).square().sum(1).mean() + penalty).backward()
        self.optimizer.step()
        before = copy.deepcopy(self.net)
        self.recycler.step()
        self.done += 1
        return fired, before


def noted(recycler):
    """Has a Recycler note which latents it resamples."""
    events, recycle = [], recycler._recycle

    def noting(chosen):
        events.append({name: found.units.tolist() for name, found in chosen.items()})
        recycle(chosen)

    recycler._recycle = noting
    return events


def test_who_fired_for_no_sample_of_a_window_is_resampled_at_its_end():
    training = Training(window=120)
    events = noted(training.recycler)
    expected, fired, seen = [], torch.zeros(24, dtype=torch.bool), 0
    for _ in range(60):
        now, _ = training.step()
        fired |= now
        seen += 3 * 30  # the step calls the latents three times
        if seen >= 120:
            if not fired.all():
                expected.append({"act": (~fired).nonzero().flatten().tolist()})
            fired, seen = torch.zeros(24, dtype=torch.bool), 0
    assert events == expected
    assert len(events) > 2
    assert events[0]["act"][:2] == [2, 7]
    assert training.recycler.recycled == sum(len(units["act"]) for units in events)


def test_a_resampled_latent_has_the_direction_of_a_probe_sample_and_the_rest_stays():
    training = Training()
    while not training.recycler.recycled:
        _, before = training.step()
    net = training.net
    changed = (net.encoder.weight != before.encoder.weight).any(1)
    which = changed.nonzero().flatten().tolist()
    assert {2, 7} <= set(which)
    assert torch.equal((net.decoder.weight != before.decoder.weight).any(0), changed)
    assert not (net.encoder.bias != before.encoder.bias)[~changed].any()
    assert torch.equal(net.decoder.bias, before.decoder.bias)
    directions = nn.functional.normalize(training.x[:200], dim=1)
    living = before.encoder.weight[~changed].norm(dim=1).mean().detach()
    for latent in which:
        column = net.decoder.weight[:, latent].detach()
        assert float((directions @ column).max()) > 1 - 1e-5
        torch.testing.assert_close(net.encoder.weight[latent].detach(), 0.2 * living * column)
        assert net.encoder.bias[latent] == 0
    for parameter, axis in ((net.encoder.weight, 0), (net.decoder.weight, 1), (net.encoder.bias, 0)):
        for key in ("exp_avg", "exp_avg_sq"):
            memory = training.optimizer.state[parameter][key].movedim(axis, 0).flatten(1 if parameter.dim() > 1 else 0)
            assert not memory[changed].any()
            assert memory[~changed].any()
        assert not parameter.grad.movedim(axis, 0)[changed].any()


def test_samples_are_drawn_by_the_loss_of_the_network_as_it_is():
    """Planted: but one sample of the probe is reconstructed without a loss."""
    torch.manual_seed(0)
    net = Autoencoder(width=4, latents=11)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for axis in range(4):  # a latent for either sign of each axis, and three that nothing wakes
            for sign in (0, 1):
                net.encoder.weight[2 * axis + sign, axis] = net.decoder.weight[axis, 2 * axis + sign] = 1.0 - 2 * sign
        net.encoder.bias[8:] = -1.0
        net.encoder.bias[6] = -3.0  # of the last axis positive values are lost
    probe = torch.randn(50, 4)
    probe[:, 3] = -probe[:, 3].abs()
    probe[17] = torch.tensor([0.0, 0.0, 0.0, 2.0])
    optimizer = torch.optim.SGD(net.parameters(), 0.0)
    recycler = undying.Recycler(net, optimizer, undying.DeadLatents(50), probe=probe)
    net(probe).sum().backward()
    optimizer.step()
    recycler.step()
    assert recycler.recycled == 4  # the one of the last axis fires for no sample either
    assert torch.equal(net.decoder.weight[:, [6, 8, 9, 10]], torch.tensor([[0.0, 0, 0, 1]] * 4).T)


def test_killed_and_resumed_it_goes_on_bit_for_bit():
    whole, cut = Training(), Training()
    for number in range(60):
        whole.step()
        if number < 33:
            cut.step()
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (cut.net, cut.optimizer, cut.recycler)], file)
    file.seek(0)
    resumed = Training()
    for part, state in zip((resumed.net, resumed.optimizer, resumed.recycler), torch.load(file), strict=True):
        part.load_state_dict(state)
    resumed.done = 33
    for _ in range(27):
        resumed.step()
    assert whole.recycler.recycled == resumed.recycler.recycled > cut.recycler.recycled
    assert all(map(torch.equal, resumed.net.parameters(), whole.net.parameters()))


def test_sequences_count_by_token():
    torch.manual_seed(0)
    net, x = Autoencoder(), torch.randn(6, 10, 5)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    recycler = undying.Recycler(net, optimizer, undying.DeadLatents(61), probe=x)
    for number in (0, 1):
        net(x).sum().backward()
        optimizer.step()
        recycler.step()
        assert bool(recycler.recycled) == (number == 1)  # 60 tokens a step


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 9), nn.Linear(9, 9), nn.Linear(9, 5)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class Classifier(Autoencoder):
    def forward(self, x):
        return super().forward(x)[:, :3]


class Normed(Autoencoder):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(24)

    def forward(self, x):
        return self.decoder(self.act(self.norm(self.encoder(x))))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (Deep, {}, "one layer of latents"),
        (Classifier, {}, "no output has the shape of its input"),
        (Normed, {}, "nothing between the two but the activation"),
        (Autoencoder, {"init": "kaiming"}, "goes with no DeadLatents"),
    ],
)
def test_what_is_no_autoencoder_is_refused_with_a_way_out(make, arguments, message):
    net = make()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=message):
        undying.Recycler(net, None, undying.DeadLatents(10), probe=torch.randn(20, 5), **arguments)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_several_processes_are_refused(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="each has its own"):
            undying.Recycler(Autoencoder(), None, undying.DeadLatents(10), probe=torch.randn(20, 5), distributed=True)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("arguments", [{"window": 0}, {"window": 1.5}, {"window": 5, "scale": 0}])
def test_settings_are_checked(arguments):
    with pytest.raises(ValueError, match=r"window|scale"):
        undying.DeadLatents(**arguments)


def test_a_perfect_reconstruction_is_left_alone_and_said():
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    x = torch.randn(10, 2)
    recycler = undying.Recycler(net, None, undying.DeadLatents(10), probe=0 * x)
    net(x).sum().backward()
    with pytest.warns(UserWarning, match="losses must be finite, at least 0 and not all 0"):
        recycler.step()
    assert recycler.recycled == 0
    assert not any(parameter.any() for parameter in net.parameters())


class Telling(Autoencoder):
    def forward(self, x):
        latents = self.act(self.encoder(x))
        return self.decoder(latents), latents


class Called(Autoencoder):
    def reconstructed(self, x):
        return self.forward(x)


def test_a_method_in_the_place_of_the_network_is_refused():
    with pytest.raises(ValueError, match="method= calls something else"):
        undying.Recycler(Called(), None, undying.DeadLatents(10), probe=torch.randn(20, 5), method="reconstructed")


def test_latents_that_are_returned_too_are_refused():
    with pytest.raises(ValueError, match="act"):
        undying.Recycler(Telling(), None, undying.DeadLatents(10), probe=torch.randn(20, 5))
