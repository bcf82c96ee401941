"""A network comes out as it went in, to the bit, whatever it did while it ran."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import undying
from undying._base.preserve_state import preserve_state

LOOKS = {
    "census": lambda net, x: undying.census(net, x),
    "audit": lambda net, x: undying.audit(net, x),
    "convert_": lambda net, x: undying.convert_(net, undying.SUGAR(), functional=True, example=x),
    "watch": lambda net, x: undying.watch(net, probe=x).close(),
}


class Scaled(nn.Module):
    """A buffer that multiplies, so that autograd keeps it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 2)
        self.register_buffer("scale", torch.rand(16))

    def forward(self, x):
        return self.last(F.relu(self.first(x)) * self.scale)


def frozen_norm():
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    net[1].eval()
    return net


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("make", [Scaled, frozen_norm, lambda: frozen_norm().train()], ids=["scale", "frozen", "norm"])
def test_a_look_between_forward_and_backward_changes_no_gradient(make, look):
    net, x = make(), torch.randn(8, 8)
    wanted = copy.deepcopy(net)
    loss, oracle = net(x).square().mean(), wanted(x).square().mean()
    look(net, x)
    loss.backward()
    oracle.backward()
    for p, q in zip(net.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_buffers_are_the_same_objects_with_the_same_versions(look):
    net = frozen_norm().train()
    before = {name: (buffer, buffer._version, buffer.clone()) for name, buffer in net.named_buffers()}
    look(net, torch.randn(8, 8))
    for name, buffer in net.named_buffers():
        same, version, value = before[name]
        assert buffer is same
        assert buffer._version == version
        assert torch.equal(buffer, value)


def test_odd_buffers():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(4, 4)
            self.register_buffer("expanded", torch.ones(1).expand(4))
            with torch.inference_mode():
                self.register_buffer("inference", torch.ones(4))
            self.register_buffer("none", None)
            self.register_buffer("nan", torch.full((4,), torch.nan))
            self.register_buffer("sparse", torch.eye(4).to_sparse())
            self.register_buffer("whole", torch.arange(4))
            self.register_buffer("calls", torch.zeros(1))
            self.alias = [self.calls]

        def forward(self, x):
            self.calls += 1
            self.alias[0] += 1
            return F.relu(self.line(x) * self.expanded * self.inference + self.sparse.to_dense()[0] + self.whole)

    net = Odd()
    before = {name: buffer.to_dense().clone() for name, buffer in net.named_buffers()}
    undying.census(net, torch.randn(5, 4))
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer.to_dense().nan_to_num(-1), before[name].nan_to_num(-1)), name
    assert net.alias[0] is net.calls


def test_a_shared_buffer_is_shared_while_it_runs():
    class Counts(nn.Module):
        def __init__(self, count):
            super().__init__()
            self.register_buffer("count", count)

        def forward(self, x):
            self.count += 1
            return x + self.count

    count = torch.zeros(())
    net = nn.Sequential(Counts(count), Counts(count))
    with preserve_state(net):
        assert net(torch.zeros(())) == 1 + 2
    assert net[0].count is net[1].count is count
    assert count == 0


class Merging(nn.Linear):
    """As adapters do: the weights of two are merged in eval mode and taken apart in training."""

    def __init__(self, fan_in, fan_out):
        super().__init__(fan_in, fan_out)
        self.merged = False
        self.low, self.high = nn.Parameter(torch.randn(2, fan_in)), nn.Parameter(torch.randn(fan_out, 2))

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.high @ self.low
            self.merged = not mode
        return self

    def forward(self, x):
        out = F.linear(x, self.weight, self.bias)
        return out if self.merged else out + x @ self.low.T @ self.high.T


class Fusing(nn.Module):
    """As re-parametrised blocks do: two branches become one layer in eval mode."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def train(self, mode=True):
        super().train(mode)
        if not mode and hasattr(self, "one"):
            self.fused = nn.Linear(4, 4)
            self.fused.weight.data = self.one.weight.data + self.two.weight.data
            self.fused.bias.data = self.one.bias.data + self.two.bias.data
            del self.one, self.two
        return self

    def forward(self, x):
        return self.fused(x) if hasattr(self, "fused") else self.one(x) + self.two(x)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("make", [lambda: Merging(4, 4), Fusing], ids=["merge", "fuse"])
def test_a_network_whose_train_does_work_comes_out_as_it_went_in(make, look):
    net = nn.Sequential(make(), nn.ReLU(), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    objects, x = dict(net.named_parameters()), torch.randn(6, 4)
    y = net(x).detach()
    look(net, x)
    assert net.training
    assert net[0].training
    after = net.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert all(objects[name] is p for name, p in net.named_parameters())
    assert torch.equal(net(x), y)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net[0].parameters())


def test_the_numbers_of_every_generator_go_on():
    class Draws(nn.Module):
        def forward(self, x):
            np.random.rand()
            random.random()
            return F.relu(x + torch.rand(()))

    def drawn():
        return np.random.rand(), random.random(), float(torch.rand(()))

    def seed():
        np.random.seed(0), random.seed(0), torch.manual_seed(0)

    seed()
    wanted = drawn()
    seed()
    undying.census(Draws(), (torch.full((2, 3), np.random.randn()) for _ in range(3)))
    assert drawn() == wanted


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.spectral_norm,
        parametrizations.spectral_norm,
        parametrizations.weight_norm,
        parametrizations.orthogonal,
    ],
)
def test_a_reparametrised_network_can_be_copied_afterwards(wrap):
    net, x = nn.Sequential(wrap(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 2)), torch.randn(4, 8)
    undying.audit(net, x)
    undying.census(net, [(x, torch.zeros(4).long())], gradients=True)
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_an_error_inside_restores_too():
    net = frozen_norm().train()
    before = net[1].running_mean.clone()

    def fails():
        with preserve_state(net):
            net(torch.randn(8, 8))
            net.eval()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert net.training
    assert torch.equal(net[1].running_mean, before)
