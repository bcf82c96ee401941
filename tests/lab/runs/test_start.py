"""Runs of a seed start alike, and where they cannot it is said."""

import dataclasses
import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab import Settings, data
from undying.lab.execution import Execution
from undying.lab.finished import check_alike
from undying.lab.runs.batches import Batches
from undying.lab.runs.classification import KIND, train
from undying.lab.runs.kind import Run
from undying.lab.runs.start import Start


class Sloped(nn.Module):
    """As PReLU, from a slope that is drawn."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.rand(1))

    def forward(self, x):
        return torch.where(x > 0, x, self.slope * x)


@pytest.fixture(scope="session", autouse=True)
def _sloped():
    """Once, also where a worker comes back to this module."""
    undying.register_activation(Sloped)


HEAD = """
import functools, random, sys
import numpy as np
import torch
from torch import nn
"""
KEEPING = {
    "a part made on import": """
BODY = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
def net(): return nn.Sequential(BODY, nn.Linear(16, 10))""",
    "a cached network": """
@functools.cache
def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))""",
    "statistics of a frozen part": """
NORM = nn.BatchNorm1d(64, affine=False)
def net(): return nn.Sequential(nn.Flatten(), NORM, nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))""",
    "a counter of the class": """
class Net(nn.Module):
    calls = 0
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)
    def forward(self, x):
        Net.calls += 1
        return self.b(self.act(self.a(x.flatten(1)))) / Net.calls
def net(): return Net()""",
    "names that are counted": """
made = []
def net():
    made.append(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
    model.add_module(f"head{len(made)}", nn.Linear(16, 10))
    return model""",
    "a generator of its own": """
draw = np.random.default_rng(0)
def net():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with torch.no_grad(): model[1].weight.copy_(torch.from_numpy(draw.normal(size=(16, 64))))
    return model""",
    "a tensor that is no parameter, drawn without a seed": """
def net():
    class Scaled(nn.Linear):
        scale = torch.tensor(random.SystemRandom().random() + 1)
        def forward(self, x): return super().forward(x) * self.scale
    return nn.Sequential(nn.Flatten(), Scaled(64, 16), nn.ReLU(), nn.Linear(16, 10))""",
}
FRESH = {
    "a seed at the head": """
torch.manual_seed(42)
def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))""",
    "draws at the head": """
torch.rand(3), random.random(), np.random.rand()
def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))""",
    "a library that seeds when it is imported, in the function": """
def net():
    import seeding
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))""",
    "weights by numpy and random": """
def net():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with torch.no_grad(): model[1].weight.copy_(torch.from_numpy(np.random.rand(16, 64)) * random.random())
    return model""",
    "a frozen part made on import": """
BODY = nn.Linear(64, 64).requires_grad_(False)
def net(): return nn.Sequential(nn.Flatten(), BODY, nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))""",
    "a part that is made when it is first used": """
def net(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 10))""",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Function of a network's source that gives (activation, seed) -> a run that has begun. The module is not imported yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("seeding.py").write_text("import torch\ntorch.manual_seed(7)\n")

    def of(source):
        Path("mine.py").write_text(HEAD + source)
        settings = Settings(
            model="mine:net", activations=("relu", "sloped", "sloped+l2init+recycle"), seeds=2, epochs=1, subset=200
        )

        def run(activation, seed):
            [config] = [
                c for c in settings.runs(data.load("digits").sha256) if (c.activation, c.seed) == (activation, seed)
            ]
            KIND.check(config, Execution())
            return Run(config, "finished", 1.0, [], {}, next(train(config)).start)

        return run

    yield of
    for name in ("mine", "seeding"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("what", KEEPING)
def test_a_network_that_keeps_something_between_runs_is_refused(own, what):
    with pytest.raises(
        UndyingError, match=r"model 'mine:net'.* second time.*; a run must not depend on those before it"
    ):
        own(KEEPING[what])("relu", 0)


@pytest.mark.parametrize("what", FRESH)
def test_the_first_run_of_a_process_starts_as_every_other(own, what):
    """So that numbers do not depend on which process trains a run, and the runs of a seed are a pair."""
    run = own(FRESH[what])
    first, other, again = run("relu", 0), run("sloped", 0), run("relu", 0)
    assert first.start == again.start
    check_alike([first, other, run("relu", 1), run("sloped+l2init+recycle", 0)])
    assert first.start.weights.keys() < other.start.weights.keys()  # the slope is the activation's own


def test_state_that_does_not_show_after_one_step_is_not_seen(own):
    own("""
class Net(nn.Module):
    calls = 0
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)
    def forward(self, x):
        Net.calls += 1
        return self.b(self.act(self.a(x.flatten(1)))) * (0.5 if Net.calls > 1000 else 1)
def net(): return Net()""")("relu", 0)


START = Start("here", {"0.weight": "a", "0.bias": "b"}, "x", "r")


def of_seed(start, activation="relu", seed=0):
    config = Settings(activations=("relu", activation) if activation != "relu" else ("relu", "sugar")).runs("hash")[0]
    return Run(dataclasses.replace(config, activation=activation, seed=seed), "finished", 1.0, [], {}, start)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {"0.weight": "a", "0.bias": "c"}}, "other weights in '0.bias';"),
        ({"weights": {"0.weight": "b", "0.bias": "c"}}, "other weights in '0.bias' and 1 more;"),
        ({"weights": {"0.weight": "a"}}, "other weights in '0.bias'"),
        ({"weights": {**START.weights, "1.weight": "a"}}, "other weights in '1.weight'"),
        ({"batch": "y"}, "another first batch"),
        ({"random": "s"}, "random generators that stand elsewhere"),
    ],
)
def test_runs_of_a_seed_that_start_otherwise_are_no_pair(changes, words):
    other = dataclasses.replace(START, **changes)
    with pytest.raises(UndyingError, match=f"relu and sugar do not start alike at seed 0.*no pair: {words}"):
        check_alike([of_seed(START), of_seed(other, "sugar")])
    check_alike([of_seed(START), of_seed(other, "sugar", seed=1)])


def test_what_cannot_be_compared_is_left_out():
    """What the activation brought; runs of early versions; runs of machines that round otherwise."""
    slope = dataclasses.replace(START, weights={**START.weights, "1.weight": "c"}, owned=["1.weight"])
    elsewhere = dataclasses.replace(START, made_on="there", batch="y")
    check_alike([of_seed(START), of_seed(slope, "sugar"), of_seed(None, "silu"), of_seed(elsewhere, "gelu")])


def test_the_first_batch_is_looked_at_and_not_taken():
    settings = Settings(epochs=1, augment=("crop",), mixup=0.2)
    config = settings.runs(data.load("digits").sha256)[0]

    def batches(look):
        torch.manual_seed(0)
        made = Batches(data.load("digits"), config, Execution())
        return [made.first() for _ in range(look)], list(itertools.islice(made.epoch(), 3))

    _, taken = batches(0)
    looked, taken_after = batches(2)
    for one, other in zip([*looked, *taken_after], [taken[0], taken[0], *taken], strict=True):
        assert all(map(torch.equal, one, other))
