"""Treatments in every kind of run: what they do there, how they start, and what is refused before anything runs."""

import contextlib
import dataclasses
import functools
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import get_total_norm

import undying
from undying._base.errors import UndyingError
from undying.lab import data
from undying.lab.checkpoints import Checkpoint, seed_everything
from undying.lab.execution import Execution
from undying.lab.executors import check_treatments
from undying.lab.process_group import SingleProcess
from undying.lab.runs import cartpole, classification
from undying.lab.runs.cartpole import CartPoleRun
from undying.lab.runs.classification import train
from undying.lab.runs.dying import DyingRun
from undying.lab.runs.kind import kind_of
from undying.lab.runs.start import difference
from undying.lab.settings import Settings

DYING = DyingRun(activation="relu", seed=1, epochs=4, lr=0.01, optimizer="adam", batch_size=128, depth=3, width=32)
PLAYED = CartPoleRun(activation="relu", seed=3, epochs=2, lr=0.0003, batch_size=64, steps=128, passes=2)
EVERYTHING = (
    "sugar:anneal=0.9+layernorm+recycle:at=0.4+l2init:1e-2+shrink_perturb:noise=1e-4+redo:0.3:every=3+snr:longest=4"
)


@pytest.fixture(autouse=True)
def one_thread():
    """As the executors do; sums in another order round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def nothing_stays():
    """A treatment that goes on after its run would slow every network of the process, and keep compiled ones from being so."""
    original = nn.Module.__call__
    yield
    assert nn.Module.__call__ is original


def run_of(activation, **settings):
    settings = Settings(activations=(activation, "gelu"), seeds=1, **{"epochs": 2, "subset": 320} | settings)
    return settings.runs(data.load("digits").sha256)[0]


def lines(config, execution=None, checkpoint=None):
    kind = kind_of(config)
    epochs = kind.train(config, execution or Execution(), checkpoint)
    return [{key: value for key, value in epoch.metrics.items() if "seconds" not in key} for epoch in epochs]


untreated = functools.cache(lines)
"""Each is compared with several that are treated."""


class KillAfter(Checkpoint):
    """Keeps the state after the given number of steps, and dies after the next."""

    def __init__(self, path, keep):
        super().__init__(path, 0)
        self.keep, self.steps = keep, 0

    def due(self):
        self.steps += 1
        if self.steps > self.keep:
            raise KeyboardInterrupt
        return self.steps == self.keep


def test_killed_at_any_step_a_treated_run_ends_with_the_same_numbers(tmp_path):
    config = run_of(EVERYTHING, ema=0.9, optimizer="adamw", amp="float16", clip=1.0, batch_size=128)
    undisturbed = lines(config)
    assert [line["recycled"] > 0 for line in undisturbed] == [False, True, True]
    path = tmp_path / "checkpoint.pt"
    for keep in (2, 3, 5):
        with contextlib.suppress(KeyboardInterrupt):
            lines(config, None, KillAfter(path, keep))
        kept = Checkpoint(path, 0).read()["epoch"]
        torch.rand(3)
        assert lines(config, None, Checkpoint(path, 1e9)) == undisturbed[kept:]


@pytest.mark.parametrize("config", [run_of("sugar"), dataclasses.replace(DYING, relu_epochs=2, relu_lr=0.1), PLAYED])
def test_a_treatment_that_does_nothing_changes_no_number(config):
    plain = lines(dataclasses.replace(config, activation="sugar"))
    idle = lines(dataclasses.replace(config, activation="sugar+l2init:0+shrink_perturb:shrink=0:noise=0"))
    assert idle == plain
    assert "recycled" not in plain[-1]


@pytest.mark.parametrize("config", [run_of("relu"), DYING, PLAYED])
@pytest.mark.parametrize(
    "spec",
    [
        "sugar:anneal=0.5",
        "relu+recycle:at=0.5",
        "relu+fresh:at=0.5",
        "relu+l2init:1",
        "relu+layernorm",
        "crelu",
        "relu+shrink_perturb",
        "relu+redo:0.3:every=3",
        "relu+cbp:0.05:maturity=2",
        "relu+snr:longest=3",
        "relu+grama:0.3:every=3",
    ],
)
def test_every_part_changes_every_kind_of_run(config, spec):
    plain = untreated(dataclasses.replace(config, activation="sugar" if spec.startswith("sugar") else "relu"))
    treated = lines(dataclasses.replace(config, activation=spec))
    assert plain[-1]["weights_sha256"] != treated[-1]["weights_sha256"] or (
        "recycle" in spec and treated[-1]["recycled"] == 0
    )


@pytest.mark.parametrize("spec", ["crelu", "relu+layernorm", "relu+recycle:at=0", "relu+fresh", "sugar:anneal=0.5"])
@pytest.mark.parametrize("config", [run_of("relu"), DYING, PLAYED])
def test_treatments_of_a_seed_start_alike(config, spec):
    """A start is noted before a part acts, and what a part brings is its own."""
    plain, treated = (
        next(iter(kind_of(config).train(dataclasses.replace(config, activation=arm), Execution(), None))).start
        for arm in ("relu", spec)
    )
    assert not difference(plain, treated)
    assert (len(treated.owned) > 0) == (spec in ("crelu", "relu+layernorm"))
    assert treated.weights.keys() - plain.weights.keys() <= set(treated.owned)


def test_annealed_in_a_run_it_ends_as_relu(monkeypatch):
    """The average's own activations too, by which a run with --ema is measured."""
    kept = []
    monkeypatch.setattr(classification, "weights_sha256", lambda model: kept.append(model) or "")
    run = classification.SingleRun(run_of("barelu:anneal=0.5", ema=0.9), Execution(), SingleProcess())
    run.begin(16)
    for run.epoch in (1, 2):
        run.train(0.0, None)
    for model in (run.model, run.measured):
        found = [module for module in model.modules() if isinstance(module, undying.BAReLU)]
        assert {(module.alpha, module.eps) for module in found} == {(0.0, 0.0)}
        x = run.batches.first()[0]
        assert undying.revert_(model, check=x).effect.largest_change == 0


def test_after_the_switch_units_are_recycled_at_once():
    config = dataclasses.replace(DYING, relu_epochs=2, relu_lr=0.1, activation="relu+recycle")
    at = lines(config)[2]
    assert at["silent_before"] > 10
    assert at["revived"] == at["recycled"] == at["silent_before"]
    # One before it, and not at all beside: the same until the switch.
    assert lines(config)[:2] == lines(dataclasses.replace(config, activation="relu"))[:2]


@pytest.mark.parametrize(
    "spec", ["barelu:anneal=0.9", "relu+redo:0.3:every=3+snr:longest=4+l2init:0.1", "relu+layernorm"]
)
def test_a_compiled_network_is_treated_as_one_that_is_not(monkeypatch, spec):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    assert lines(run_of(spec), Execution(compile=True)) == lines(run_of(spec))


def test_measuring_more_often_changes_nothing_of_the_training():
    """A census runs the network forward and backward, which no policy may take for training."""
    spec = "relu+snr:longest=4+cbp:0.05:maturity=2"
    often, seldom = (lines(run_of(spec, epochs=4, measure_every=every)) for every in (1, 4))
    assert often[-1] == seldom[-1]
    assert often[-1]["recycled"] > 0


def test_a_step_that_a_loss_scale_leaves_out_is_one_of_the_treatment():
    run = classification.SingleRun(run_of("sugar:anneal=1", amp="float16", epochs=1), Execution(), SingleProcess())
    run.begin(16)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=1e30)
    run.epoch, first = 1, run.model.head.weight.detach().clone()
    run.train(0.0, None)
    assert torch.equal(run.model.head.weight, first)  # all were left out
    assert run.treatment.step == run.batches.steps == 5
    assert run.model.act1.strength == 0


def test_in_cartpole_the_pull_comes_after_the_limit_of_the_gradient(monkeypatch):
    norms, begin = [], cartpole._begin

    def watched(agent, *args):
        treatment, optimizer = begin(agent, *args), agent.policy.optimizer
        parameters = optimizer.param_groups[0]["params"]
        optimizer.register_step_pre_hook(lambda *_: norms.append(float(get_total_norm([p.grad for p in parameters]))))
        return treatment

    monkeypatch.setattr(cartpole, "_begin", watched)
    for weight in (0, 100):
        norms.clear()
        lines(dataclasses.replace(PLAYED, epochs=1, activation=f"relu+l2init:{weight}"))
        assert len(norms) == 4
        assert (max(norms) > 0.51) == (weight > 0)  # PPO's limit is 0.5


def test_a_network_that_has_diverged_is_not_recycled_and_no_error():
    epochs = list(train(run_of("relu+recycle:at=0.9", optimizer="sgd", lr=1e9)))
    assert epochs[-1].diverged


NORM_CALLED_TWICE = """
from torch import nn

class Twice(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(64, 8), nn.Linear(8, classes), nn.ReLU()

    def forward(self, x):
        return self.b(self.act(self.a(x.flatten(1)).add(self.act(self.a(x.flatten(1))))))

def net(classes):
    return Twice(classes)
"""


def test_what_does_not_fit_a_network_is_refused_before_any_run(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(NORM_CALLED_TWICE)
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(activations=("relu", "relu+layernorm"), seeds=1, epochs=1, model="twice:net")
    with pytest.raises(UndyingError, match="layernorm cannot stand before 'act', which is called 2 times"):
        undying.lab.compare(settings, tmp_path / "out", Execution(workers=1))
    assert not list((tmp_path / "out").glob("runs/*/metrics.jsonl"))


def test_crelu_is_refused_for_a_network_that_was_trained_before():
    config = dataclasses.replace(DYING, relu_epochs=2, relu_lr=0.1, activation="crelu")
    with pytest.raises(
        UndyingError, match="'crelu': crelu begins with other weights, and the network was trained before"
    ):
        check_treatments([config], Execution())


@pytest.mark.parametrize("config", [run_of("relu"), dataclasses.replace(DYING, relu_epochs=2, relu_lr=0.1), PLAYED])
def test_every_kind_of_run_is_rehearsed(config):
    check_treatments(
        [dataclasses.replace(config, activation=f"relu+{part}") for part in ("redo", "layernorm")], Execution()
    )
    with pytest.raises(
        UndyingError, match=r"'tanh\+recycle': recycle looks for silent units, which Tanh does not have"
    ):
        check_treatments([config, dataclasses.replace(config, activation="tanh+recycle")], Execution())


def test_a_check_leaves_the_generators_alone():
    seed_everything(5)
    expected = torch.rand(3)
    seed_everything(5)
    check_treatments([run_of("relu+layernorm+recycle")], Execution())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"activations": ("relu", "relu+fresh:at=0.5"), "ema": 0.9}, "fresh begins with new weights, of which --ema"),
        ({"activations": ("relu", "relu+nope")}, "unknown part 'nope' in 'relu+nope'; known: "),
    ],
)
def test_settings_refuse_what_cannot_be_right(settings, said):
    with pytest.raises(UndyingError, match=re.escape(said)):
        Settings(**settings)
    Settings(activations=("relu", "relu+fresh"), ema=0.9)
