"""Networks whose data do not go through forward: treatments are told what is called."""

import pytest
import torch
from torch import nn

import undying


class Autoencoder(nn.Module):
    """Three latents of eight are silent; it has no forward."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.act, self.decoder = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)
        nn.init.constant_(self.encoder.bias[:3].data, -100.0)

    def rebuild(self, x):
        return self.decoder(self.act(self.encoder(x)))


@pytest.mark.parametrize("method", ["rebuild", "function"])
def test_recycling_once(method):
    net, x = Autoencoder(), torch.randn(64, 4)
    before = net.rebuild(x)
    given = method if method == "rebuild" else lambda batch: net.rebuild(batch)
    report = undying.recycle_(net, probe=x, method=given)
    assert report["act"].recycled == (0, 1, 2)
    assert torch.equal(net.rebuild(x), before)
    assert not undying.census(net, x, method="rebuild")["act"].silent.any()


def test_recycling_in_training():
    net, x = Autoencoder(), torch.randn(64, 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.0)
    with undying.Recycler(net, optimizer, undying.ReDo(every=2), probe=x, method="rebuild") as recycler:
        for _ in range(2):
            net.rebuild(x).square().mean().backward()
            optimizer.step()
            recycler.step()
    assert recycler.recycled >= 3
    assert not undying.census(net, x, method="rebuild")["act"].silent.any()


def test_the_effect_of_reverting():
    net, x = Autoencoder(), torch.randn(64, 4)
    undying.convert_(net, undying.BAReLU(), method="rebuild")
    mine = net.rebuild(x)
    report = undying.revert_(net, allow_change=True, check=x, method="rebuild")
    assert report.effect.largest_change == pytest.approx((net.rebuild(x) - mine).abs().max().item())


@pytest.mark.parametrize(
    "call",
    [
        lambda net, x: undying.census(net, x),
        lambda net, x: undying.recycle_(net, probe=x),
        lambda net, x: undying.Recycler(net, torch.optim.SGD(net.parameters()), undying.ReDo(), probe=x),
        lambda net, x: undying.convert_(net, undying.SUGAR(), example=x),
        lambda net, x: undying.revert_(net, check=x),
    ],
)
def test_without_it_the_way_out_is_named(call):
    net = Autoencoder()
    undying.convert_(net, undying.SUGAR())
    with pytest.raises(TypeError, match=r"Autoencoder has no forward to call; method="):
        call(net, torch.randn(5, 4))
