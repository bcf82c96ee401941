"""The harness, on a clock that only the timed callables move."""

import itertools
import math
import random
import statistics

import pytest

from undying.bench.timing import LEAST_ROUNDS, Timings, measure, median_interval


class Clock:
    """Seconds that pass only while a form runs; ``slowness`` says how much slower the machine is at a time."""

    def __init__(self, slowness=lambda now: 1.0):
        self.now, self.slowness = 0.0, slowness

    def __call__(self):
        return self.now

    def form(self, cost, log=None, name=None):
        def run():
            if log is not None:
                log.append(name)
            self.now += cost * self.slowness(self.now)

        return run


def test_ratio_of_known_costs():
    clock = Clock()
    timings = measure({"base": clock.form(1e-5), "four": clock.form(4e-5)}, 1.0, clock=clock)
    ratio = timings.ratio("four", to="base")
    assert ratio.value == pytest.approx(4)
    assert ratio.low == pytest.approx(4)
    assert ratio.high == pytest.approx(4)
    assert timings.seconds("four") == pytest.approx(4e-5)
    assert timings.ratio("base", to="four").value == pytest.approx(0.25)
    assert ratio.to_dict() == {"median": ratio.value, "low": ratio.low, "high": ratio.high, "rounds": ratio.n}


def test_drift_of_the_machine_cancels():
    """Ten times slower by the end: seconds spread, ratios do not."""
    clock = Clock(lambda now: 1 + 9 * now)
    timings = measure({"base": clock.form(1e-5), "three": clock.form(3e-5)}, 1.0, sample=1e-3, clock=clock)
    assert max(timings.samples["base"]) > 5 * min(timings.samples["base"])
    assert timings.ratio("three", to="base").value == pytest.approx(3, rel=0.02)


def test_a_minority_of_disturbed_rounds_does_not_move_the_median():
    noise = random.Random(1)
    clock = Clock(lambda now: 20.0 if noise.random() < 0.1 else 1.0)
    forms = {"base": clock.form(6e-3), "twice": clock.form(12e-3)}
    ratio = measure(forms, 10.0, clock=clock).ratio("twice", to="base")
    assert ratio.value == pytest.approx(2)
    assert ratio.low <= 2 <= ratio.high


def test_short_calls_are_repeated_until_a_sample_is_long_enough():
    clock = Clock()
    costs = {"short": 1e-6, "long": 2e-2}
    timings = measure({name: clock.form(cost) for name, cost in costs.items()}, 0.5, sample=5e-3, clock=clock)
    assert timings.repeats["long"] == 1
    assert 5000 <= timings.repeats["short"] <= 10000


def test_time_is_kept_but_never_fewer_rounds_than_an_interval_needs():
    clock = Clock()
    assert measure({"slow": clock.form(100.0)}, 1.0, clock=clock).ratio("slow", to="slow").n == LEAST_ROUNDS
    clock = Clock()
    timings = measure({"a": clock.form(0.01), "b": clock.form(0.04)}, 1.0, clock=clock)
    assert timings.ratio("a", to="b").n == pytest.approx(10, abs=1)  # each form runs once before its sample


def test_every_round_has_every_form_once_in_an_order_that_changes():
    clock, log = Clock(), []
    forms = {name: clock.form(0.01, log, name) for name in "abc"}
    timings = measure(forms, 3.0, clock=clock)
    rounds = timings.ratio("a", to="b").n
    timed = log[-6 * rounds :]
    assert timed[::2] == timed[1::2]  # once before the sample, once in it
    orders = {tuple(timed[i : i + 6 : 2]) for i in range(0, len(timed), 6)}
    assert orders == set(itertools.permutations("abc"))


def test_the_first_call_is_not_timed():
    """It may compile for seconds."""
    clock = Clock()
    first = iter([1000.0])

    def compiled_on_first_call():
        clock.now += next(first, 0.01)

    timings = measure({"compiled": compiled_on_first_call}, 0.1, clock=clock)
    assert max(timings.samples["compiled"]) == pytest.approx(0.01)


@pytest.mark.parametrize("n", [6, 7, 10, 25, 100])
def test_interval_of_the_median_has_the_narrowest_order_statistics_that_hold_95_percent(n):
    """Against the sum over all numbers of values below the true median."""
    low, high = (int(v) for v in median_interval([float(i) for i in range(n)]))
    assert high == n - 1 - low

    def holds(k):
        return sum(math.comb(n, below) for below in range(k + 1, n - k)) / 2**n

    assert holds(low) >= 0.95
    assert holds(low + 1) < 0.95


def test_interval_of_too_few_rounds_is_all_of_them():
    assert median_interval([1.0, 2.0, 3.0]) == (1.0, 3.0)


def test_ratios_are_taken_within_a_round():
    timings = Timings({"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 500.0]}, {"a": 1, "b": 1})
    assert timings.ratio("b", to="a").value == 2
    assert statistics.median(timings.samples["b"]) / statistics.median(timings.samples["a"]) == 2
