"""Optimizers of every kind: a step is found, or it is said that none can be; norms are those of float64 by hand."""

import sys

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import undying

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def backward(net):
    net.zero_grad()
    net(X).square().mean().backward()


def size(tensors):
    return float(sum(t.detach().to_dense().abs().double().square().sum() for t in tensors) ** 0.5)


def told(memory):
    return [(record.step, record.census["1"].samples) for record in memory]


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation (Foret et al. 2021), stepped by two methods or by ``step(closure)``."""

    def __init__(self, params, lr):
        super().__init__(params, {})
        self.base = SGD(self.param_groups, lr=lr)

    @torch.no_grad()
    def first_step(self):
        for p in self.param_groups[0]["params"]:
            self.state[p]["e"] = 0.05 * p.grad
            p.add_(self.state[p]["e"])
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p in self.param_groups[0]["params"]:
            p.sub_(self.state[p]["e"])
        self.base.step()
        self.zero_grad()

    def step(self, closure):
        self.first_step()
        closure()
        self.second_step()


@pytest.mark.parametrize("by", ["two methods", "step"])
def test_sam_steps_once_for_two_passes(by):
    net, memory = network(), undying.Memory()
    optimizer = SAM(net.parameters(), lr=0.1)
    changes = []
    with undying.watch(net, optimizer, every=1, sinks=memory):
        for _ in range(3):
            before = [p.detach().clone() for p in net.parameters()]
            backward(net)
            if by == "step":
                optimizer.step(lambda: backward(net))
            else:
                optimizer.first_step()
                backward(net)
                optimizer.second_step()
            changes.append(size(p - b for p, b in zip(net.parameters(), before, strict=True)))
    assert told(memory) == [(0, 32), (1, 32), (2, 32)]
    for record, change in zip(memory, changes, strict=True):
        assert record.update_norm == pytest.approx(change, rel=1e-4)
        assert record.gradient_norm == pytest.approx(change / 0.1, rel=1e-4)  # at the second point, as SGD was given it


def test_a_step_that_fails_goes_on_into_the_next():
    net, memory = network(), undying.Memory()
    optimizer = SAM(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=memory):
        backward(net)
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
        for _ in range(2):
            backward(net)
            optimizer.step(lambda: backward(net))
    assert told(memory) == [(0, 48), (1, 32)]


def test_an_optimizer_that_steps_by_other_means_is_named():
    class Bare(SAM):
        def second_step(self):
            pass

    net, memory = network(), undying.Memory()
    watching = undying.watch(net, Bare(net.parameters(), 0.1), sinks=memory)
    for _ in range(3):
        backward(net)
    with pytest.warns(UserWarning, match=r"3 forward passes of Sequential and no step: .* call watching.step\(\)"):
        watching.close()
    assert memory == []


def test_a_step_that_never_comes_is_said_on_the_way(monkeypatch):
    monkeypatch.setattr(sys.modules[undying.watch.__module__], "_MANY", 3)
    net = network()
    with undying.watch(net, SGD(net.parameters(), lr=0.1)) as watching:
        backward(net)
        backward(net)
        with pytest.warns(UserWarning, match="3 forward passes of Sequential and no step"):
            backward(net)
        watching._passes_seen = 0


@pytest.mark.parametrize("kind", [list, lambda two: dict(enumerate(two))])
def test_of_several_optimizers_each_steps_in_a_step(kind):
    net, memory = network(), undying.Memory()
    two = [SGD(net[0].parameters(), lr=0.1), Adam(net[2].parameters(), lr=0.1)]
    expected = []
    with undying.watch(net, kind(two), every=1, sinks=memory):
        for step in range(3):
            before = [p.detach().clone() for p in net.parameters()]
            backward(net)
            expected.append([size(p.grad for p in net.parameters())])
            for optimizer in two if step else reversed(two):  # in any order
                optimizer.step()
            expected[-1].append(size(p - b for p, b in zip(net.parameters(), before, strict=True)))
    assert told(memory) == [(0, 16), (1, 16), (2, 16)]
    for record, norms in zip(memory, expected, strict=True):
        assert [record.gradient_norm, record.update_norm] == pytest.approx(norms, rel=1e-4)


def test_one_of_two_optimizers_steps_more_often():
    net, memory = network(), undying.Memory()
    often, seldom = SGD(net[0].parameters(), lr=0.1), SGD(net[2].parameters(), lr=0.1)
    with undying.watch(net, [often, seldom, often], every=1, sinks=memory):
        for _ in range(2):
            for _ in range(3):
                backward(net)
                often.step()
            seldom.step()
    assert told(memory) == [(0, 48), (1, 48)]


def test_an_optimizer_for_each_parameter_in_the_backward_pass():
    net, memory = network(), undying.Memory()
    optimizers = {p: SGD([p], lr=0.1) for p in net.parameters()}

    def step(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in optimizers:
        p.register_post_accumulate_grad_hook(step)
    with undying.watch(net, optimizers, every=1, sinks=memory):
        for _ in range(2):
            backward(net)
    assert told(memory) == [(0, 16), (1, 16)]
    assert memory[1].update_norm == pytest.approx(0.1 * memory[1].gradient_norm, rel=1e-4)
    assert set(memory[1].gradient_norms) == {name for name, _ in net.named_parameters()}


def test_accelerates_optimizer():
    from accelerate import Accelerator

    accelerator, net, memory = Accelerator(cpu=True, gradient_accumulation_steps=2), network(), undying.Memory()
    net, optimizer = accelerator.prepare(net, SGD(net.parameters(), lr=0.1))
    with undying.watch(net, optimizer, every=1, sinks=memory):
        for _ in range(4):
            with accelerator.accumulate(net):
                accelerator.backward(net(X).square().mean())
                optimizer.step()
                optimizer.zero_grad()
    assert told(memory) == [(0, 32), (1, 32)]


def test_an_optimizer_inside_a_wrapper_without_hooks_is_followed_and_said():
    class Lookahead(torch.optim.Optimizer):
        """Never calls Optimizer.__init__."""

        def __init__(self, optimizer):
            self.optimizer, self.param_groups = optimizer, optimizer.param_groups

        def step(self, closure=None):
            self.optimizer.step(closure)

    net, memory = network(), undying.Memory()
    optimizer = Lookahead(SGD(net.parameters(), lr=0.1))
    with pytest.warns(UserWarning, match="what Lookahead itself changes is not measured"):
        watching = undying.watch(net, optimizer, every=1, sinks=memory)
    with watching:
        backward(net)
        optimizer.step()
    assert told(memory) == [(0, 16)]


def test_what_cannot_be_followed_is_refused_with_the_way_out():
    class Foreign:
        def step(self):
            pass

    net = network()
    for optimizer in (Foreign(), SGD, net.parameters(), "sgd", [SGD(net.parameters(), lr=0.1), Foreign()]):
        with pytest.raises(TypeError, match=r"leave optimizer out and call watching.step\(\) after each step"):
            undying.watch(net, optimizer)
    with pytest.raises(TypeError, match="no optimizer to follow"):
        undying.watch(net, [])
    # The first of the list had its hooks already.
    assert undying.watch(net, SGD(net.parameters(), lr=0.1)).close() is None


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.linear, self.act = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 8), nn.ReLU()

    def forward(self, x):
        return self.act(self.linear(self.embedding(x)))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8, dtype=torch.complex64))
        self.scale = nn.Parameter(torch.full((8,), 1e200, dtype=torch.float64))
        self.short = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act((x.to(torch.complex64) @ self.weight).conj().real) * self.short * (self.scale / 1e200)


@pytest.mark.parametrize("make", [Embedded, Complex, lambda: network().double()])
def test_gradients_that_are_sparse_complex_or_of_any_precision(make):
    torch.manual_seed(0)
    net, memory = make(), undying.Memory()
    x = torch.tensor([3, 3, 1]) if isinstance(net, Embedded) else X  # the gradients of 3 lie at one place twice
    x = x.double() if isinstance(net, nn.Sequential) else x
    optimizer = SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=memory):
        net(x).square().sum().backward()
        expected = {name: size([p.grad]) for name, p in net.named_parameters()}
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        optimizer.step()
    assert memory[0].gradient_norms == pytest.approx(expected, rel=1e-3)
    changed = {name: size([p - before[name]]) for name, p in net.named_parameters()}
    assert memory[0].update_norms == pytest.approx(changed, rel=1e-2)


def test_parameters_that_come_late_or_change_their_shape():
    net, memory = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1)), undying.Memory()
    optimizer = SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=memory):
        for step in range(3):
            optimizer.zero_grad()
            net(X).square().mean().backward()
            optimizer.step()
            if step == 0:
                net[2] = nn.Linear(8, 3)
                optimizer.add_param_group({"params": net[2].parameters()})
    assert told(memory) == [(0, 16), (1, 16), (2, 16)]
    assert all(len(record.gradient_norms) == len(record.update_norms) == 4 for record in memory)
