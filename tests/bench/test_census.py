"""What counting costs is measured on real passes and steps; the figure of every=50 is worked out from two."""

import contextlib

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import undying
from bench_targets import check_census
from undying._base.errors import UndyingError
from undying.bench import census as bench
from undying.bench.timing import Timings


def test_every_50_is_one_sampled_step_in_fifty():
    # A step takes 1 s, one between samples 1.02 s and a sampled one 1.5 s; two of each in a call.
    timings = Timings({"plain": [2.0] * 6, "every=2": [2.52] * 6, "between": [2.04] * 6}, {})
    ratio = bench._every_50(timings)
    assert ratio.value == pytest.approx((49 * 1.02 + 1.5) / 50)
    assert ratio.n == 6


def test_a_case_has_every_figure(monkeypatch):
    monkeypatch.setitem(
        bench.NETWORKS,
        "mlp",
        lambda: (
            torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 10)),
            torch.randn(5, 3),
        ),
    )
    settings = bench.CensusSettings(models=("mlp",), batches=2, threads=(1,), seconds=1e-3, no_compiled=True)
    cases = list(bench.measure_census(settings, lambda _: None))
    assert [form for form, _ in cases[0].ratios] == ["census", "step, every=1", "step, every=50"]
    assert all(ratio.n >= 6 for ratio in cases[0].ratios.values())
    counter = CompileCounter()
    torch.compile(lambda x: x + 1, backend=counter)(torch.ones(2))
    assert counter.frame_count == 1  # no watch is left behind, which would keep what is compiled from running
    page = bench.census_page(settings, cases)
    assert max(map(len, page.plain().splitlines()[:10])) <= 80
    assert "| step, every=50 |" in page.markdown()
    assert [checked.met is None for checked in check_census(cases)] == [False, False, False, True]


@pytest.mark.parametrize("act", [torch.nn.ReLU(), bench.TopK(3)], ids=["relu", "topk"])
def test_latents_are_counted_whatever_makes_them(monkeypatch, act):
    counted = []
    monkeypatch.setitem(bench.NETWORKS, "mine", lambda: (bench.SparseAutoencoder(12, 40, act), torch.randn(5, 12)))
    monkeypatch.setitem(bench.OUTPUTS, "mine", "act" if isinstance(act, bench.TopK) else ())
    monkeypatch.setattr(bench, "census", lambda *args, **kwargs: counted.append(undying.census(*args, **kwargs)))
    passes = bench._passes(bench.CensusSettings(models=("mine",), batches=3), "mine")
    passes["census"]()
    assert counted[0]["act"].units == 40
    assert counted[0]["act"].samples == 15
    assert bench.OUTPUTS.keys() <= bench.NETWORKS.keys()
    assert all(name.startswith("topk") == (name in bench.OUTPUTS) for name in bench.NETWORKS if name != "mine")


def test_what_a_watch_does_not_count_is_measured_in_passes_alone(monkeypatch):
    def small(act):
        return lambda: (bench.SparseAutoencoder(12, 40, act), torch.randn(5, 12))

    monkeypatch.setitem(bench.NETWORKS, "mine", small(torch.nn.ReLU()))
    monkeypatch.setitem(bench.NETWORKS, "topmine", small(bench.TopK(3)))
    monkeypatch.setitem(bench.OUTPUTS, "topmine", "act")
    settings = bench.CensusSettings(("topmine", "mine"), batches=2, threads=(1,), seconds=1e-3, no_compiled=True)
    cases = list(bench.measure_census(settings, lambda _: None))
    assert [len(case.ratios) for case in cases] == [1, 3]
    rows = {row[0]: row[1:] for row in bench.table(cases, wide=True)}
    assert rows["step, every=1"][0] == rows["step, ms"][0] == "–"
    assert "–" not in rows["census"]


def test_two_steps_leave_nothing_armed_and_sample_one(monkeypatch):
    written = []
    monkeypatch.setattr(undying.Watch, "_write", lambda self, counter: written.append(len(counter.counts)))
    settings = bench.CensusSettings(models=("mlp",), threads=(1,))
    monkeypatch.setitem(
        bench.NETWORKS,
        "mlp",
        lambda: (
            torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 10)),
            torch.randn(5, 3),
        ),
    )
    with contextlib.ExitStack() as watches:
        two = bench._two_steps(settings, "mlp", None, 2, watches)
        assert written == [1]  # the first step of all
        two()
        two()
        assert written == [1, 1, 1]


def test_bad_settings_are_named():
    for settings, message in (
        (bench.CensusSettings(models=("nope",)), "--models"),
        (bench.CensusSettings(batches=0), "--batches"),
        (bench.CensusSettings(threads=(0,)), "--threads"),
    ):
        with pytest.raises(UndyingError, match=message):
            settings.check()
