"""Replaying a training step, with a recording that a CPU can make: the same tensors are filled by the same function.

What a CUDA graph records is for a GPU to show. Here is what surrounds it: which steps are replayed, that a run ends with the
same weights, and that a recording which gives anything else is not used.
"""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from undying._base.errors import UndyingError
from undying.lab import data
from undying.lab.execution import Execution
from undying.lab.process_group import SingleProcess
from undying.lab.runs.captured import WARM_UP, Captured
from undying.lab.runs.classification import SingleRun
from undying.lab.settings import Settings


class Recording:
    """As a CUDA graph: results and gradients always in the same tensors, whose inputs are always the same too."""

    def __init__(self, model, spoil=lambda results: None):
        self.parameters, self.spoil = list(model.parameters()), spoil
        self.replays = 0

    def __call__(self, step):
        results = step()
        gradients = [p.grad for p in self.parameters]

        def replay():
            self.replays += 1
            again = step()
            self.spoil(again)
            for own, new in zip(results, again, strict=True):
                own.copy_(new)
            for own, p in zip(gradients, self.parameters, strict=True):
                own.copy_(p.grad)

        return replay, results


def run_of(activation="relu", **changes):
    config, *_ = Settings(activations=(activation, "tanh"), seeds=2, batch_size=8).runs(data.load("digits").sha256)
    return dataclasses.replace(config, validation=0.0, **changes)


def trained(config, recording=None):
    """The run after its epochs, with the means of each."""
    run = SingleRun(config, Execution(), SingleProcess())
    if recording is not None:
        run.captured = Captured(run.forward_and_backward, run.model, recording(run.model))
    run.begin(16)
    means = []
    for run.epoch in range(1, config.epochs + 1):
        means.append(run.train(0.0, None))
    run.close()
    return run, means


def assert_same(one, other):
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


NETWORK = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A network with batch norm that takes no time."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "normed.py").write_text(NETWORK)
    yield "normed:net"
    sys.modules.pop("normed", None)


@pytest.mark.parametrize("more", [{}, {"clip": 0.5, "label_smoothing": 0.1}, {"ema": 0.9}, {"mixup": 0.4}])
@pytest.mark.parametrize("activation", ["sugar", "barelu:eps=0.01"])
def test_a_run_ends_the_same_bit_for_bit(activation, more, small):
    assert_replayed(run_of(activation, model=small, subset=44, epochs=2, **more))


def test_one_of_a_residual_network_does():
    assert_replayed(run_of("sugar", model="resnet18", subset=44, epochs=1))


def assert_replayed(config):
    """With batch norm, and a last batch that is smaller."""
    plain, means = trained(config)
    made = []
    run, again = trained(config, lambda model: made.append(Recording(model)) or made[-1])
    assert run.captured.why == ""
    full, last = divmod(config.subset, 8)
    assert last > 0
    # All whole batches after the warm-up, the first of them to compare.
    assert made[0].replays == config.epochs * full - WARM_UP
    assert means == again
    assert_same(plain, run)


def spoil_output(results):
    results[0].add_(1e-6)


def spoil_loss(results):
    results[1].mul_(1 + 1e-6)


@pytest.mark.parametrize("spoil", [spoil_output, spoil_loss])
def test_a_recording_that_gives_other_numbers_is_not_used(spoil):
    config = run_of("sugar", model="small_cnn", subset=64, epochs=2)
    plain, means = trained(config)
    made = []
    run, again = trained(config, lambda model: made.append(Recording(model, spoil)) or made[-1])
    assert run.captured.why == "a replay gave other numbers than the step itself"
    assert made[0].replays == 1
    assert means == again
    assert_same(plain, run)


def test_what_cannot_be_recorded_goes_on_as_it_is():
    config = run_of("sugar", model="small_cnn", subset=64, epochs=1)

    def fails(step):
        step()  # it may have run in part
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, means = trained(config)
    run, again = trained(config, lambda model: fails)
    assert "not permitted when stream is capturing" in run.captured.why
    assert means == again
    assert_same(plain, run)


class Net(nn.Module):
    """A buffer that counts, and draws."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        return x * self.weight * torch.rand(3)


def test_buffers_and_draws_go_on_as_without_it():
    found = {}
    for replayed in (False, True):
        torch.manual_seed(0)
        net = Net()

        def step(x, target, net=net):
            net.zero_grad()
            loss = ((net(x) - target) ** 2).sum()
            loss.backward()
            return net(x).detach(), loss.detach()

        run = Captured(step, net, Recording(net)) if replayed else step
        found[replayed] = [
            [t.clone() for t in (*run(torch.full((3,), float(i)), torch.ones(3)), net.weight.grad, net.calls)]
            for i in range(8)
        ]
    assert all(
        torch.equal(a, b) for one, other in zip(*found.values(), strict=True) for a, b in zip(one, other, strict=True)
    )


def test_what_runs_in_python_is_not_recorded():
    may = {
        name: SingleRun(run_of(model="small_cnn", **change), Execution(), SingleProcess())._may_be_captured()
        for name, change in {
            "plain": {},
            "treated": {"activation": "relu+redo:every=5"},
            "scaled": {"amp": "bfloat16"},
        }.items()
    }
    assert may == {"plain": True, "treated": False, "scaled": False}


@pytest.mark.parametrize("more", [{}, {"compile": True}])
def test_it_is_for_a_gpu(more):
    with pytest.raises(UndyingError, match="--captured goes with --device cuda"):
        Execution(captured=True, **more)
