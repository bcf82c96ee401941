"""What the finished runs of a table say: of each arm, of each claim, and how much of a gain remains under each control."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from undying.papers.plan import Plan
from undying.papers.results import RunResult, choose_rate
from undying.papers.table import LOGARITHMS, Claim, Gain, Table, Task
from undying.papers.verdicts import BY_CONSTRUCTION, CANNOT_TELL, MARGIN, NOT_YET, estimate, judge
from undying.statistics.interval import Interval

Seeds = Mapping[int, RunResult]
"""Runs of one arm at one rate, by seed."""


@dataclass(frozen=True)
class ArmAnalysis:
    """One arm of a task."""

    arm: str
    runs: Mapping[float, Seeds]
    """By learning rate, ascending; every planned rate is there, its runs as far as they are finished."""
    own_rate: float | None
    """The rate that it chose on validation data; None without a grid, or while it has too few runs to choose."""

    def at(self, rate: float | None) -> Seeds:
        """Its runs at ``rate``."""
        return self.runs.get(rate, {}) if rate is not None else {}


@dataclass(frozen=True)
class TaskAnalysis:
    """One task: its arms in the order of the table."""

    task: Task
    seeds: tuple[int, ...]
    arms: Mapping[str, ArmAnalysis]

    def pairs(self, arm: str, against: str, own_rates: bool = False) -> list[tuple[RunResult, RunResult]]:
        """Finished runs of two arms, by seed."""
        if not {arm, against} <= self.arms.keys():
            return []
        first, second = (
            one.at(one.own_rate if own_rates else self.task.lr) for one in (self.arms[arm], self.arms[against])
        )
        return [(first[seed], second[seed]) for seed in self.seeds if seed in first and seed in second]

    def differences(self, arm: str, against: str, metric: str = "accuracy", own_rates: bool = False) -> list[float]:
        """Of two arms, paired by seed."""
        differences = [one.of(metric) - other.of(metric) for one, other in self.pairs(arm, against, own_rates)]
        # A norm that was never finite makes no pair.
        return [difference for difference in differences if math.isfinite(difference)]

    def difference(self, arm: str, against: str, metric: str = "accuracy", own_rates: bool = False) -> Interval | None:
        """Their mean; None without a pair."""
        differences = self.differences(arm, against, metric, own_rates)
        return estimate(differences) if differences else None


@dataclass(frozen=True)
class ClaimAnalysis:
    """One claim, and what became of it."""

    claim: Claim
    difference: Interval | None
    """Arm minus the other; None where nothing was run."""
    same_weights: int
    """Pairs that ended with the same weights, bit for bit."""
    nothing_to_lower: bool
    """It says lower, and the other arm has less than the smallest difference that matters: no run could show it."""
    verdict: str


@dataclass(frozen=True)
class Remainder:
    """A gain under one control."""

    arm: str
    own_rates: bool
    difference: Interval
    share: float | None
    """Of the gain at the published rate; None where that is not above 0 by its interval."""


@dataclass(frozen=True)
class GainAnalysis:
    gain: Gain
    rows: tuple[Remainder, ...]
    """The first is the gain itself, at the published rate."""


@dataclass(frozen=True)
class Analysis:
    """Everything that a page says."""

    table: Table
    scale_name: str
    plan: Plan
    results: tuple[RunResult, ...]
    tasks: Mapping[str, TaskAnalysis]
    claims: tuple[ClaimAnalysis, ...]
    gains: tuple[GainAnalysis, ...] = field(default=())


def analyze(table: Table, scale_name: str, plan: Plan, results: tuple[RunResult, ...]) -> Analysis:
    """Compute what ``results``, the finished runs of ``plan``, say."""
    tasks = {task.name: _task(task, plan, results) for task in plan.scale.tasks}
    return Analysis(
        table=table,
        scale_name=scale_name,
        plan=plan,
        results=results,
        tasks=tasks,
        claims=_claims(table, plan.scale.answers, tasks),
        gains=tuple(found for gain in table.gains if (found := _gain(gain, tasks)) is not None),
    )


def _task(task: Task, plan: Plan, results: tuple[RunResult, ...]) -> TaskAnalysis:
    runs: dict[str, dict[float, dict[int, RunResult]]] = {
        arm: {rate: {} for rate in task.rates(arm)} for arm in task.arms
    }
    for result in results:
        if result.planned.task == task.name:
            config = result.planned.config
            runs[config.activation][config.lr][config.seed] = result
    return TaskAnalysis(
        task,
        plan.seeds[task.name],
        {
            arm: ArmAnalysis(
                arm,
                of,
                choose_rate({rate: {seed: o.validation for seed, o in seeds.items()} for rate, seeds in of.items()}),
            )
            for arm, of in runs.items()
        },
    )


def _claims(table: Table, answers: bool, tasks: Mapping[str, TaskAnalysis]) -> tuple[ClaimAnalysis, ...]:
    differences = [
        tasks[c.task].differences(c.arm, c.against, c.metric, c.own_rates) if c.task in tasks else []
        for c in table.claims
    ]
    open_ones = [i for i, claim in enumerate(table.claims) if not claim.by_construction]
    at_floor = [_nothing_to_lower(claim, tasks) for claim in table.claims]
    judged = judge([(table.claims[i].says, [] if at_floor[i] else differences[i]) for i in open_ones])
    verdicts = dict(zip(open_ones, judged if answers else [CANNOT_TELL] * len(judged), strict=True))
    for i in open_ones:
        if answers and _is_open(table.claims[i], tasks):
            verdicts[i] = NOT_YET
    return tuple(
        ClaimAnalysis(
            claim,
            estimate(differences[i]) if differences[i] else None,
            _same_weights(claim, tasks),
            at_floor[i],
            verdicts.get(i, BY_CONSTRUCTION),
        )
        for i, claim in enumerate(table.claims)
    )


def _is_open(claim: Claim, tasks: Mapping[str, TaskAnalysis]) -> bool:
    """Whether there are runs at this scale that it needs, of which no pair is finished."""
    if claim.task not in tasks:
        return False
    found = tasks[claim.task]
    rates = [found.task.rates(arm) for arm in (claim.arm, claim.against)]
    planned = all(len(of) > claim.own_rates for of in rates)
    return planned and not found.pairs(claim.arm, claim.against, claim.own_rates)


def _nothing_to_lower(claim: Claim, tasks: Mapping[str, TaskAnalysis]) -> bool:
    if (
        claim.says != "lower"
        or claim.metric in LOGARITHMS
        or claim.task not in tasks
        or claim.against not in tasks[claim.task].arms
    ):
        return False
    task = tasks[claim.task]
    found = task.arms[claim.against]
    runs = found.at(found.own_rate if claim.own_rates else task.task.lr).values()
    return bool(runs) and sum(run.of(claim.metric) for run in runs) / len(runs) < MARGIN


def _same_weights(claim: Claim, tasks: Mapping[str, TaskAnalysis]) -> int:
    pairs = tasks[claim.task].pairs(claim.arm, claim.against) if claim.task in tasks else []
    return sum(one.weights == other.weights for one, other in pairs)


def _gain(gain: Gain, tasks: Mapping[str, TaskAnalysis]) -> GainAnalysis | None:
    if gain.task not in tasks:
        return None
    task = tasks[gain.task]
    whole = task.difference(gain.arm, gain.against)
    if whole is None:
        return None
    divisible = whole.low is not None and whole.low > 0
    rows = [
        Remainder(arm, own, found, found.value / whole.value if divisible else None)
        for own in (False, True)
        for arm in (gain.arm, *gain.controls)
        if (found := task.difference(arm, gain.against, own_rates=own)) is not None
    ]
    return GainAnalysis(gain, tuple(rows))
