"""Steps and samples since a unit fired, against a count by hand."""

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
