"""What a planned comparison can find, said before anything runs."""

from __future__ import annotations

import math

import numpy as np

from undying.lab.pairs import pairs_of, scores_of
from undying.lab.plan import Plan
from undying.statistics.paired import detectable_difference, seeds_needed

_FEWEST = 3
"""Pairs, below which their deviation says nothing."""


def power(plan: Plan) -> list[str]:
    """Sentences: whether there are seeds enough for a verdict, and of each activation with finished pairs, as a pilot, the
    difference that would be found in four of five such comparisons."""
    comparisons = (len(plan.settings.activations) - 1) * len(plan.metrics)
    needed, seeds = seeds_needed(comparisons), plan.settings.seeds
    several = f"{comparisons} comparisons" if comparisons > 1 else "1 comparison"
    if seeds < needed:
        return [
            f"{seeds} {'seed is' if seeds == 1 else 'seeds are'} too few to find a difference in {several}, whatever they show: add --seeds {needed}"
        ]
    if plan.settings.grid or not plan.finished or not plan.missing:
        return []
    metric, baseline = plan.metrics[0], plan.settings.activations[0]
    runs = {
        name: [run for run in plan.finished.values() if run.config.activation == name]
        for name in plan.settings.activations
    }
    begun = {name: of for name, of in runs.items() if of}
    pairs = pairs_of(scores_of(metric, begun, plan.data)) if baseline in begun else {}
    said = []
    for name, (base, own) in pairs.items():
        if len(own) >= _FEWEST:
            found = detectable_difference(float(np.std(np.subtract(own, base), ddof=1)), seeds, comparisons)
            if math.isfinite(found) and found > 0:
                (written,) = metric.differences(found)
                said.append(
                    f"{name}: with {seeds} seeds a true difference of {written} {metric.difference_unit}".rstrip()
                    + f" would be found in 4 of 5 such comparisons, judged by {len(own)} finished pairs"
                )
    return said
