"""What a finished comparison says: plain frozen records, made from its runs and read by the report.

``Results.to_dict`` leaves the measured seconds out, so that an interrupted and an undisturbed sweep give the
same bytes; they are in ``results.csv`` and in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from undying._base import text
from undying._base.text import known
from undying.lab.grid import Point
from undying.statistics.interval import Interval
from undying.statistics.metric import Metric
from undying.statistics.records import Comparison, Curve, Summary


@dataclass(frozen=True)
class SiteHistory:
    """Share of a site's units, in [0, 1], by epoch (epoch 0: before training): mean over the runs."""

    name: str
    units: int
    silent: Sequence[float | None]
    dead: Sequence[float | None]
    dormant: Sequence[float | None]
    died: Sequence[float | None] = ()
    """Units that fell silent since the count before, by epoch, mean over the runs; None where nothing was counted or before
    it. Empty for runs that did not note which units were silent."""
    revived: Sequence[float | None] = ()
    """Units that were silent then and are not now."""


@dataclass(frozen=True)
class ActivationResult:
    """Everything known about one activation or treatment."""

    name: str
    """As the user named it: ``sugar:nelu``."""
    module: str
    """``repr`` of the module: ``SUGAR(nelu(a=0.05))``; empty where others trained the runs."""
    seeds: Sequence[int]
    """Of the finished runs, ascending; every ``Summary.values`` below is in their order."""
    diverged: int
    """Runs whose loss stopped being finite; they count with the score of guessing."""
    scores: Mapping[str, Summary]
    """By metric, on the test data after the last epoch; the first is the one that decides."""
    test_loss: Summary | None
    """None if a run diverged."""
    silent: Summary | None
    """Share of units that are silent on the probe data after the last epoch, in [0, 1], over the sites of which that is
    known; None where it is known of none (silent is not said of tanh), or a run was never counted."""
    dead: Summary | None
    dormant: Summary | None
    sparsity: Summary | None
    """Share of post-activations that are exactly 0."""
    seconds: Summary | None
    """Wall-clock seconds a run; None where others trained them."""
    comparisons: Mapping[str, Comparison]
    """By metric, those of ``scores`` and ``silent``, over the seeds that both have; without a metric that is unknown or has
    no such seed, and empty for the baseline."""
    curves: Mapping[str, Curve]
    """``train_loss``, ``test_loss``, a ``test_`` of each metric, ``train_accuracy`` of a classification, ``sparsity``,
    ``gradient_norm``, ``update_norm``, and ``recycled`` where there is that."""
    sites: Sequence[SiteHistory]
    recycled: Summary | None = None
    """Units that the treatment has made anew by the last epoch, each as often as it was; None for one that does not."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Sites of which it cannot make all units anew, with the reasons."""
    diverged_seeds: Sequence[int] = ()
    """Of the runs that ``diverged`` counts."""
    aggregates: Mapping[str, Interval] = field(default_factory=dict)
    """Of agents, over runs that are not paired: ``iqm``, and of all but the baseline ``improvement``, the chance that a run is
    above one of the baseline."""

    validation: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """``validation_loss`` and a ``validation_`` of each metric after the last epoch, one a run; None where it is not finite.
    Empty without a share of the training data that is held out."""

    together: bool | None = False
    """Whether its seeds were trained together, so that ``seconds`` are shares of what several runs took; None: some were."""

    @property
    def score(self) -> Summary:
        """Of the metric that decides."""
        return next(iter(self.scores.values()))

    @property
    def comparison(self) -> Comparison | None:
        """Of the same; None for the baseline, and without a seed that the baseline has too."""
        return self.comparisons.get(next(iter(self.scores)))


@dataclass(frozen=True)
class Tried:
    """One point of the grid for one arm."""

    point: Point
    validation: float
    """Mean score on what is held out, over the seeds that all points of the arm have."""
    score: Summary
    """On the test data, over all its finished runs; no choice is made by it."""
    diverged: int


@dataclass(frozen=True)
class Tuned:
    """One arm."""

    chosen: Point
    """The point that is best by ``Tried.validation``; the first of those that are equal."""
    add: Point
    """Of the options whose chosen value lies at an end of the grid, the value to add."""
    tried: Sequence[Tried]
    """Every point, in the order of the grid."""
    at_shared: Summary
    """Its score at the point that all arms share."""
    comparison: Comparison | None
    """With the baseline, both at that point."""


@dataclass(frozen=True)
class Tuning:
    """What a grid gave."""

    options: Mapping[str, Sequence[float]]
    shared: Point
    """The one point for all: that with the best mean over the arms on what is held out."""
    arms: Mapping[str, Tuned]
    """By name, those with a run at each point."""


@dataclass(frozen=True)
class Results:
    """A whole comparison."""

    undying: str
    """Version that made it."""
    command: str
    """Makes it again."""
    settings: Mapping[str, Any]
    """data, model, activations, seeds, epochs, lr, optimizer, batch_size; of imported scores activations, seeds, margin."""
    data: Mapping[str, Any]
    """name, train, test, classes, shape, sha256; of imported scores name, sha256, values, notes."""
    metrics: Sequence[Metric]
    """What the scores are; the first is the one that decides."""
    probe: int
    """Number of training samples, or of those that a task names, on which units are counted; 0: none are."""
    environment: Mapping[str, str]
    """python, torch, platform, processor."""
    activations: Sequence[ActivationResult]
    """In the order named, those with a finished run; the first is the baseline."""
    planned: int
    """Number of runs of the whole comparison."""
    tuning: Tuning | None = None
    """What a grid gave, where there is one: then everything else is of each arm at its own best point."""

    @property
    def metric(self) -> Metric:
        """The one that decides."""
        return self.metrics[0]

    @property
    def baseline(self) -> ActivationResult:
        return self.activations[0]

    @property
    def imported(self) -> bool:
        """Whether somebody else trained the runs: there are scores, perhaps curves, and nothing of units and training."""
        return "model" not in self.settings

    @property
    def seeds(self) -> Sequence[int]:
        """Every seed of it, ascending."""
        if self.imported:
            return sorted({seed for activation in self.activations for seed in activation.seeds})
        return range(self.settings["seeds"])

    @property
    def finished(self) -> int:
        """Number of runs that these results are made of."""
        if self.tuning is not None:
            return sum(len(tried.score.values) for arm in self.tuning.arms.values() for tried in arm.tried)
        return sum(len(activation.seeds) for activation in self.activations)

    @property
    def partial(self) -> bool:
        """Whether runs are still missing."""
        return self.finished < self.planned

    @property
    def unfinished(self) -> list[str]:
        """Activations without a finished run."""
        known = {activation.name for activation in self.activations}
        return [name for name in self.settings["activations"] if name not in known]

    def __len__(self) -> int:
        return len(self.activations)

    def __iter__(self) -> Iterator[ActivationResult]:
        return iter(self.activations)

    def _repr_html_(self) -> str:
        metric = self.metric
        head = (
            "activation",
            "seeds",
            f"{metric.column} [95 %]",
            f"minus {self.baseline.name} [95 %]",
            "p (Holm)",
            "verdict",
        )
        rows = [
            (of.name, str(len(of.seeds)), of.score.interval.in_words(metric.number, " [{}, {}]"), *_beside(of, metric))
            for of in self.activations
        ]
        missing = f"<p>{self.finished} of {self.planned} runs are finished.</p>" if self.partial else ""
        return text.html_table([head, *rows]) + missing

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the measured seconds and what they are."""
        state = {"partial": self.partial, "finished": self.finished, "unfinished": self.unfinished}
        plain = {"format": 2, **state, **asdict(self)}
        for activation in plain["activations"]:
            del activation["seconds"], activation["together"]
            if not activation["validation"]:
                del activation["validation"]
            for site in activation["sites"]:
                if not site["died"]:
                    del site["died"], site["revived"]
            for curve in activation["curves"].values():
                if curve["steps"] is None:
                    del curve["steps"]
        return plain


def _beside(activation: ActivationResult, metric: Metric) -> tuple[str, str, str]:
    """The difference from the baseline, its p and its verdict; empty for the baseline, and without a pair."""
    found = activation.comparison
    if found is None:
        return "", "", ""
    ends = [found.difference, *([found.low, found.high] if known(found.low) and known(found.high) else [])]
    number, *interval = metric.differences(*ends)
    return number + (f" [{', '.join(interval)}]" if interval else ""), f"{found.p_holm:.3g}", found.verdict
