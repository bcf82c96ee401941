"""Runs of autoencoders: what a line says, against the network itself and against undying.watch, and how L0 is made equal."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import undying
from undying._base.errors import UndyingError
from undying.lab.autoencoders.model import Arm
from undying.lab.execution import Execution
from undying.lab.executors.work import FINISHED, execute
from undying.lab.runs.sae import KIND, SaeRun, _Run, at_l0, train
from undying.lab.store import Store

RUN = SaeRun(
    data="generated",
    activation="relu",
    seed=1,
    epochs=2,
    lr=0.01,
    batch_size=32,
    latents=48,
    steps=60,
    penalties=("0.01", "0.2"),
    keeps=("2", "6"),
    planted=0.25,
    window=640,
    l0=4,
)
ARMS = (
    "relu",
    "sugar",
    "sugar:nelu",
    "sugar:anneal=0.5",
    "relu+resample",
    "relu+ghost",
    "topk",
    "topk+auxk",
    "relu+raw",
)


def lines(run):
    return [epoch.metrics for epoch in train(run)]


@pytest.mark.parametrize("arm", ARMS)
def test_what_a_line_says_is_so_of_the_autoencoder(arm):
    config = replace(RUN, activation=arm)
    run = _Run(config, Execution())
    sae, pressure = run.built(1)
    since = run.train(sae, pressure)
    said = lines(config)[2]
    test = run.given(run.test)
    with torch.no_grad():
        latents = sae.act(sae.encoder(test))
        error = (sae.decoder(latents) - test).double().square().sum()
    assert said["pressure"] == (6 if "topk" in arm else 0.2)
    assert said["l0"] == pytest.approx(float((latents > 0).sum(1).double().mean()))
    spread = (test - test.mean(0)).double().square().sum()
    assert said["test_explained"] == pytest.approx(float(1 - error / spread), abs=1e-6)
    silent = ~(latents > 0).any(0)
    assert said["sites"][0]["silent"] == int(silent.sum())
    assert said["dead"] == int((silent & (since >= 640)).sum())
    torch.testing.assert_close(sae.decoder.weight.detach().norm(dim=0), torch.ones(48))


def test_since_when_a_latent_is_quiet_is_what_watch_says():
    run = _Run(replace(RUN, activation="sugar"), Execution())
    sae, _ = run.built(1)
    followed = undying.SinceFired()
    made = torch.optim.Adam

    def watched(*args, **kwargs):
        optimizer = made(*args, **kwargs)
        watches.append(undying.watch(sae, optimizer, every=1, sinks=followed))
        return optimizer

    watches = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("undying.lab.optimizers", fromlist=["x"]).OPTIMIZERS, "adam", watched)
        since = run.train(sae, 0.3)
    watches[0].close()
    assert torch.equal(since, followed["act"].samples)
    assert (since > 0).any()


def test_all_arms_of_a_seed_start_alike_and_see_the_same_samples():
    runs = {arm: _Run(replace(RUN, activation=arm), Execution()) for arm in ("relu", "sugar", "topk+auxk")}
    first, *others = ([*run.built(0)[0].parameters(), run.batch(7)] for run in runs.values())
    for other in others:
        assert all(map(torch.equal, first, other))
    assert not torch.equal(first[-1], _Run(replace(RUN, seed=2), Execution()).batch(7))
    raw = _Run(replace(RUN, activation="relu+raw"), Execution())
    offset = raw.batch(7) - runs["relu"].batch(7)
    torch.testing.assert_close(offset, offset[:1].expand_as(offset))
    assert offset.norm() > 1


def test_each_autoencoder_is_trained_from_the_start():
    """The second of two is the first of one alone with its strength."""
    both, alone = lines(RUN), lines(replace(RUN, epochs=1, penalties=("0.2",), keeps=("6",)))
    left = ("epoch", "seconds", "weights_sha256")
    assert {k: v for k, v in both[2].items() if k not in left} == {k: v for k, v in alone[1].items() if k not in left}
    assert both[2]["weights_sha256"] == lines(RUN)[2]["weights_sha256"] != both[1]["weights_sha256"]


def test_annealed_it_ends_as_relu_and_resampled_latents_are_new():
    run = _Run(replace(RUN, activation="sugar:anneal=0.5"), Execution())
    sae, pressure = run.built(0)
    run.train(sae, pressure)
    assert sae.act.strength == 0
    planted = _Run(replace(RUN, activation="relu+resample", penalties=("0.01", "0.01")), Execution())
    sae, pressure = planted.built(0)
    with torch.no_grad():
        sae.encoder.bias[:5] = -100.0
    since = planted.train(sae, pressure)
    assert (since[:5] < 640).all()
    assert (sae.encoder.bias[:5] > -50).all()


def line(l0, explained, dead=0, silent=0):
    return {"epoch": 1, "l0": l0, "test_explained": explained, "dead": dead, "sites": [{"silent": silent}]}


def test_at_one_l0_it_is_a_line_over_the_logarithm():
    said = [{"epoch": 0}, line(100, 0.9, dead=10), line(10, 0.5, dead=30), line(1, 0.0, dead=50)]
    for l0, explained, dead in (
        (10, 0.5, 0.3),
        (100, 0.9, 0.1),
        (1, 0.0, 0.5),
        (10**1.5, 0.7, 0.2),
        (10**0.25, 0.125, 0.45),
    ):
        found = at_l0(said, 100, l0)
        assert found["explained"] == pytest.approx(explained)
        assert found["dead"] == pytest.approx(dead)


def test_beyond_what_was_trained_there_is_no_number():
    said = [{"epoch": 0}, line(10, 0.5), line(100, 0.9)]
    assert all(math.isnan(value) for l0 in (9.9, 101) for value in at_l0(said, 100, l0).values())


def test_a_diverged_run_explains_nothing_and_its_latents_are_not_told():
    config = replace(RUN, lr=1e30)
    epochs = list(train(config))
    assert epochs[-1].diverged
    assert len(epochs) == 2
    values = KIND.values(config, [epoch.metrics for epoch in epochs], 0)
    assert values["accuracy"] == 0
    assert math.isnan(values["dead"])


def test_a_run_is_stored_and_read_back(tmp_path):
    config = replace(RUN, activation="topk+auxk", steps=5)
    assert execute(config, tmp_path, Execution(), wait=True) == FINISHED
    assert Store(tmp_path).config(config.id) == config
    assert [line["epoch"] for line in Store(tmp_path).read(config).epochs] == [0, 1, 2]


def test_other_data_than_the_runs_are_an_error(tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(64, 3)))
    config = replace(RUN, data="mine", data_sha256="0" * 64)
    with pytest.raises(UndyingError, match="others than those"):
        execute(config, tmp_path, Execution(data_root=tmp_path), wait=True)


def test_what_is_no_arm_is_refused():
    for spec, message in (
        ("relu+auxk", "auxk goes with topk"),
        ("topk+resample", "not with topk"),
        ("relu+spirit", "ghost"),
    ):
        with pytest.raises(UndyingError, match=message):
            Arm.of(spec)
    with pytest.raises(UndyingError, match="as many penalties"):
        KIND.check(replace(RUN, epochs=3), Execution())


def test_planted_latents_are_silent_at_first_and_the_others_are_as_drawn():
    run, none = (_Run(replace(RUN, planted=share), Execution()) for share in (0.25, 0.0))
    (sae, _), (drawn, _) = run.built(0), none.built(0)
    counted = undying.census(sae, run.probe)["act"]
    assert counted.silent[:12].all()
    assert not counted.silent[12:].any()
    for name, tensor in sae.state_dict().items():
        other = drawn.state_dict()[name]
        assert torch.equal(tensor[12:], other[12:]) if name == "encoder.bias" else torch.equal(tensor, other)
    torch.testing.assert_close(run.train(sae, 0.01)[:12], torch.full((12,), 60 * 32))  # ReLU alone wakes none
