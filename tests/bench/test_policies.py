"""What a Recycler costs is measured on real steps; that of a look in a thousand steps is worked out."""

import pytest
import torch

from bench_targets import POLICIES, check_census
from undying._base.errors import UndyingError
from undying.bench import census
from undying.bench import policies as bench
from undying.bench.timing import Timings


def test_one_look_in_a_thousand_steps():
    # A step takes 1 s, one between looks 1.02 s and one with a look 3.02 s.
    timings = Timings({"plain": [1.0] * 6, "ReDo": [3.02] * 6, "between": [1.02] * 6}, {})
    ratio = bench._at_interval(timings, "ReDo", 1000)
    assert ratio.value == pytest.approx((999 * 1.02 + 3.02) / 1000)
    assert ratio.n == 6


def test_a_case_has_every_policy_and_leaves_nothing_behind(monkeypatch):
    small = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 10))
    monkeypatch.setitem(census.NETWORKS, "mlp", lambda: (small, torch.randn(5, 3)))
    call = torch.nn.Module.__call__
    settings = bench.PolicySettings(models=("mlp",), threads=(1,), seconds=1e-3)
    cases = list(bench.measure_policies(settings, lambda _: None))
    assert torch.nn.Module.__call__ is call
    assert {target.form for target in POLICIES} <= {form for form, _ in cases[0].ratios}
    assert all(ratio.n >= 6 for ratio in cases[0].ratios.values())
    page = bench.policies_page(settings, cases)
    assert "| ContinualBackprop |" in page.markdown()
    assert [checked.met is None for checked in check_census(cases, POLICIES)] == [False] * 4


def test_bad_settings_are_named():
    for settings, message in (
        (bench.PolicySettings(models=("nope",)), "--models"),
        (bench.PolicySettings(seconds=0), "--seconds"),
    ):
        with pytest.raises(UndyingError, match=message):
            settings.check()
