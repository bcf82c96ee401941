"""Tasks in a row: what each arm has left at its own best learning rate, and what its layers are like at every rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure as Canvas

from undying._base.text import markdown
from undying.lab.runs.lines import last_counted
from undying.lab.store import Store
from undying.papers.details.protocol import Drawn, Section
from undying.papers.page.cells import points_of
from undying.papers.page.metrics import mean_of
from undying.papers.results import RunResult, choose_rate
from undying.papers.table import Metric, Scale, Task
from undying.papers.verdicts import estimate
from undying.plots.curves import Line, lines, numbers
from undying.report.words import MISSING
from undying.statistics.summaries import curve

Runs = Mapping[int, RunResult]
"""Of one arm at one rate, by seed."""


@dataclass(frozen=True)
class Online(Section):
    """The runs of one task, by arm and rate."""

    task: Task
    runs: Mapping[str, Mapping[float, Runs]]
    """Arm -> rate -> its runs; both in the order of the table and ascending."""
    own: Mapping[str, float]
    """Arm -> the rate that it chose, of the arms that could choose."""

    @classmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Online | None:
        runs: dict[str, dict[float, dict[int, RunResult]]] = {
            arm: {rate: {} for rate in task.rates(arm)} for arm in task.arms
        }
        for o in results:
            config = o.planned.config
            if o.planned.task == task.name:
                runs[config.activation][config.lr][config.seed] = o
        chosen = {
            arm: choose_rate({rate: {seed: o.validation for seed, o in seeds.items()} for rate, seeds in of.items()})
            for arm, of in runs.items()
        }
        own = {arm: rate for arm, rate in chosen.items() if rate is not None}
        return cls(task, runs, own) if any(of for rates in runs.values() for of in rates.values()) else None

    def table(self) -> list[str]:
        parts = []
        if self.own:
            parts += ["Each arm at its own best rate.", markdown(list(self._at_best()))]
        return [
            *parts,
            "The layers after the last task, the first one first, mean over the seeds: silent units of each site, %; and norm of the weights "
            "of each layer.",
            markdown(list(self._by_layer())),
        ]

    def at_best(self, arm: str) -> Runs:
        """Its runs at its own best rate."""
        return self.runs[arm][self.own[arm]]

    def _at_best(self) -> Iterator[tuple[str, ...]]:
        (score, *others), baseline = self.task.metrics, self.task.arms[0]
        headings = (metric.heading for metric in others)
        yield ("arm", "own best rate", "n", score.heading, f"minus {baseline}, points", *headings)
        for arm, rate in self.own.items():
            runs = self.at_best(arm)
            less = MISSING if baseline not in self.own else "" if arm == baseline else self._difference(arm, baseline)
            means = (mean_of(runs, metric) for metric in others)
            yield (f"`{arm}`", f"{rate:g}", str(len(runs)), mean_of(runs, score), less, *means)

    def _difference(self, arm: str, against: str) -> str:
        first, second = self.at_best(arm), self.at_best(against)
        pairs = [o.accuracy - second[seed].accuracy for seed, o in first.items() if seed in second]
        return points_of(estimate(pairs) if pairs else None)

    def _by_layer(self) -> Iterator[tuple[str, ...]]:
        rates = self.task.grid
        yield ("arm", *(f"{what} at {rate:g}" for rate in rates for what in ("silent", "norms")))
        for arm, of in self.runs.items():
            yield (f"`{arm}`", *(cell for rate in rates for cell in _layers(of.get(rate, {}))))

    def figures(self, scale_name: str) -> Drawn:
        drawn = {"own-accuracy": Metric("accuracy", "Online accuracy"), "own-silent": Metric("silent", "Silent units")}
        return {kind: self._curves(metric, scale_name) for kind, metric in drawn.items()} if self.own else {}

    def _curves(self, metric: Metric, scale_name: str) -> tuple[Canvas, str, str]:
        """Over the tasks, the arms at their own best rates."""
        shown = []
        for arm in self.own:
            curves = [run.curves for run in self.at_best(arm).values()]
            along = curve([one[metric.metric] for one in curves])
            over = max((one["over"] for one in curves), key=len)
            parts = (numbers(of, metric.factor) for of in (along.median, along.low, along.high))
            line = Line(arm, numbers(over), *parts).measured()
            if line.x:
                shown.append(line)
        title = f"{metric.text}, {self.task.name}, own best rates, {scale_name} scale"
        said = "; ".join(f"{line.name} {line.middle[0]:.1f} to {line.middle[-1]:.1f}" for line in shown)
        canvas = lines(shown, self.task.over, metric.heading.replace(", %", " (%)"), title)
        return canvas, title, f"{title}. Median over the seeds, first and last point: {said}."


def _layers(runs: Runs) -> tuple[str, str]:
    """Silent units by site, and norms by layer, of the last lines at which they are known."""
    found = [line for o in runs.values() if (line := last_counted(o.epochs))]  # type: ignore[arg-type]
    if not found:
        return MISSING, MISSING
    sites = zip(*(line["sites"] for line in found), strict=True)
    norms = zip(*(line["weight_norms"].values() for line in found), strict=True)
    return " / ".join(map(_silent, sites)), " / ".join(f"{math.fsum(layer) / len(layer):.3g}" for layer in norms)


def _silent(site: Sequence[Mapping[str, Any]]) -> str:
    """Mean over runs, in percent."""
    if any(one["silent"] is None for one in site):
        return MISSING
    return f"{100 * math.fsum(one['silent'] / one['units'] for one in site) / len(site):.0f}"
