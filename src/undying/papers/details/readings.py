"""Which reading of a formula gives the published pair of norms: ratios to LeakyReLU's by eps, offset, slope and epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from undying._base.text import markdown
from undying.lab.store import Store
from undying.papers.details.protocol import Drawn, Section, at_its_rate
from undying.papers.page.cells import difference
from undying.papers.results import RunResult
from undying.papers.table import Scale, Task
from undying.papers.verdicts import estimate
from undying.plots.theme import INK, MUTED, WIDE, entitle, plain_numbers, style_of
from undying.report.words import MISSING
from undying.statistics.interval import Interval

PUBLISHED = {"gradient": -0.311, "update": -0.383}
"""By kind of norm: the change against Leaky ReLU."""
NEAR = 0.05
"""A reading gives the pair if it is as near as this to both numbers, and both lie within its intervals."""
WHEN = ("all of training", "first epoch", "last epoch")
CLIPPED = "after clipping"
"""Of tasks that clip, all of training: the gradient's norm is otherwise that before."""
_OTHER, _SHOWN = "leaky_relu", 5


@dataclass(frozen=True)
class Reading:
    """One way to read the two numbers, and what it gives."""

    arm: str
    against: str
    when: str
    ratios: Mapping[str, Interval]
    """Kind -> difference of the logarithms of the norms, paired by seed."""

    @property
    def distance(self) -> float:
        """The larger of the two distances to the published numbers, 0.01 a point."""
        return max(abs(math.expm1(ratio.value) - PUBLISHED[kind]) for kind, ratio in self.ratios.items())

    @property
    def gives_the_pair(self) -> bool:
        return self.distance <= NEAR and all(
            ratio.low is not None and ratio.high is not None and ratio.low <= math.log1p(PUBLISHED[kind]) <= ratio.high
            for kind, ratio in self.ratios.items()
        )


@dataclass(frozen=True)
class Ratios:
    """Norms of the runs of one task at its rate."""

    task: Task
    norms: Mapping[str, Mapping[int, Mapping[tuple[str, str], float]]]
    """Arm -> seed -> (kind, when) -> logarithm of the mean norm, where that was finite and above 0."""

    @classmethod
    def read(cls, task: Task, results: Sequence[RunResult]) -> Ratios:
        norms: dict[str, dict[int, Mapping[tuple[str, str], float]]] = {}
        for one in at_its_rate(task, results):
            norms.setdefault(one.planned.arm, {})[one.planned.config.seed] = _logarithms(
                one.epochs[1:], task.recipe.clip
            )
        return cls(task, norms)

    @property
    def when(self) -> tuple[str, ...]:
        return (*WHEN, CLIPPED) if self.task.recipe.clip else WHEN

    @property
    def others(self) -> list[str]:
        """What is compared with: LeakyReLU at each slope that was run."""
        return [arm for arm in self.norms if arm.startswith(_OTHER)]

    @property
    def arms(self) -> list[str]:
        return [arm for arm in self.norms if not arm.startswith(_OTHER)]

    def ratio(self, arm: str, against: str, kind: str, when: str) -> Interval | None:
        """None without a pair."""
        key, first, second = (kind, when), self.norms.get(arm, {}), self.norms.get(against, {})
        pairs = [
            first[seed][key] - second[seed][key]
            for seed in first
            if seed in second and key in first[seed] and key in second[seed]
        ]
        return estimate(pairs) if pairs else None

    def readings(self) -> list[Reading]:
        """Every one, the nearest to the published pair first."""
        found = []
        for arm, against, when in itertools.product(self.arms, self.others, self.when):
            ratios = {kind: self.ratio(arm, against, kind, when) for kind in PUBLISHED}
            known = {kind: ratio for kind, ratio in ratios.items() if ratio is not None}
            if len(known) == len(PUBLISHED):
                found.append(Reading(arm, against, when, known))
        return sorted(found, key=lambda reading: reading.distance)

    def by_eps(self, *, jumping: bool) -> dict[float, str]:
        """eps -> arm, ascending, of the arms whose root jumps at 0 or of those whose does not."""
        arms = {float(arm.partition("eps=")[2]): arm for arm in self.arms if ("jumping" in arm) == jumping}
        return dict(sorted(arms.items()))

    def crossing(self, kind: str) -> float | None:
        """The first eps at which the norm over all of training has fallen as far as published, with the offset taken off:
        between two that were run on a line over log eps. None if it never has."""
        points = [
            (math.log(eps), ratio.value - math.log1p(PUBLISHED[kind]))
            for eps, arm in self.by_eps(jumping=False).items()
            if (ratio := self.ratio(arm, _OTHER, kind, WHEN[0])) is not None
        ]
        for (x, above), (further, below) in itertools.pairwise(points):
            if above > 0 >= below:
                return math.exp(x + (further - x) * above / (above - below))
        return None


@dataclass(frozen=True)
class Readings(Section):
    """The readings of one task; the first task also draws all of them."""

    task: Task
    tasks: tuple[Ratios, ...]
    """Of every task that has runs, in the order of the table."""

    @classmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Readings | None:
        found = (Ratios.read(one, results) for one in scale.tasks)
        tasks = tuple(ratios for ratios in found if _OTHER in ratios.norms and ratios.arms)
        return cls(task, tasks) if any(ratios.task == task for ratios in tasks) else None

    @property
    def own(self) -> Ratios:
        return next(ratios for ratios in self.tasks if ratios.task == self.task)

    def table(self) -> list[str]:
        own = self.own
        columns = [(kind, when) for when in own.when for kind in PUBLISHED]
        rows: list[tuple[str, ...]] = [("arm", *(f"{kind}, {when}" for kind, when in columns), "n")]
        for arm in (*own.others[1:], *own.arms):
            ratios = [own.ratio(arm, _OTHER, *column) for column in columns]
            shown = [difference(ratio, kind) for ratio, (kind, _) in zip(ratios, columns, strict=True)]
            rows.append((f"`{arm}`", *shown, str(ratios[0].n if ratios[0] else 0)))
        readings = own.readings()
        nearest: list[tuple[str, ...]] = [("arm", "against", "norms of", *PUBLISHED, "gives the pair")]
        nearest += [
            (
                f"`{one.arm}`",
                f"`{one.against}`",
                one.when,
                *(difference(one.ratios[kind], kind) for kind in PUBLISHED),
                "yes" if one.gives_the_pair else "no",
            )
            for one in readings[:_SHOWN]
        ]
        pair = " and ".join(f"{_percent(value)} ({kind})" for kind, value in PUBLISHED.items())
        given = sum(one.gives_the_pair for one in readings)
        fallen = {kind: own.crossing(kind) for kind in PUBLISHED}
        eps = " and ".join(f"{MISSING if at is None else f'{at:.2g}'} ({kind})" for kind, at in fallen.items())
        return [
            f"Norms against `{_OTHER}`, in per cent of its own: geometric mean over the seeds with its 95 % interval.",
            markdown(rows),
            f"**The published pair: {pair}.** Of {len(readings)} readings (arm, slope of LeakyReLU, epochs) {given} give it: both "
            f"within {100 * NEAR:g} points and within both intervals, which are not corrected for so many readings. The nearest:",
            markdown(nearest),
            "Over all of training and with the offset taken off, the norms have fallen as far as published at eps = "
            f"{eps}; {MISSING}: at none that was run.",
        ]

    def figures(self, scale_name: str) -> Drawn:
        return {"readings": _draw(self.tasks, scale_name)} if self.tasks[0].task == self.task else {}


def _logarithms(epochs: Sequence[Mapping[str, Any]], clip: float) -> dict[tuple[str, str], float]:
    means = {
        (kind, when): _mean([line.get(f"{kind}_norm") for line in some])
        for when, some in zip(WHEN, (epochs, epochs[:1], epochs[-1:]), strict=True)
        for kind in PUBLISHED
    }
    if clip:
        means["gradient", CLIPPED] = _mean([_clipped(line, clip) for line in epochs])
        means["update", CLIPPED] = means["update", WHEN[0]]
    return {key: math.log(mean) for key, mean in means.items() if mean > 0}


def _clipped(line: Mapping[str, Any], clip: float) -> float:
    """Mean over an epoch's steps of the whole gradient's norm as clipping leaves it."""
    by_step = zip(*(norms["gradient"] for norms in line["norms"].values()), strict=True)
    return _mean([None if None in step else min(clip, math.hypot(*step)) for step in by_step])


def _mean(values: Sequence[float | None]) -> float:
    """Of the finite ones, as ``RunResult`` has it."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-", "−")


def _lines(tasks: Sequence[Ratios]) -> Iterator[tuple[str, Ratios, dict[float, str]]]:
    for ratios in tasks:
        for jumping in (False, True):
            arms = ratios.by_eps(jumping=jumping)
            if arms:
                yield f"{ratios.task.name}, offset {'left in' if jumping else 'taken off'}", ratios, arms


def _draw(tasks: Sequence[Ratios], scale_name: str) -> tuple[Canvas, str, str]:
    """A panel a kind of norm: its ratio by eps, a line for each optimizer and reading of the offset."""
    canvas = Canvas(figsize=(WIDE, 3.4), layout="constrained")
    said = []
    for axes, kind in zip(canvas.subplots(1, 2, sharey=True), PUBLISHED, strict=True):
        for i, (name, ratios, arms) in enumerate(_lines(tasks), 1):
            found = {eps: ratios.ratio(arm, _OTHER, kind, WHEN[0]) for eps, arm in arms.items()}
            shown = {eps: ratio for eps, ratio in found.items() if ratio is not None}
            _line(axes, name, i, shown)
            told = ", ".join(f"{_percent(math.expm1(ratio.value))} at {eps:g}" for eps, ratio in shown.items())
            said.append(f"{kind}, {name}: {told}")
        axes.axhline(0, color=INK.stand_in, linewidth=0.8)
        axes.axhline(100 * PUBLISHED[kind], color=MUTED.stand_in, linewidth=1.2, linestyle="--", label="published")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1,), numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(plain_numbers())
        axes.set_xlabel("eps")
        axes.set_title(f"{kind.capitalize()} norm", fontsize=8)
    canvas.axes[0].set_ylabel("Change (%)")
    canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    title = f"Norms against LeakyReLU's by eps, {scale_name} scale"
    entitle(canvas, title)
    pair = ", ".join(f"{kind} {_percent(value)}" for kind, value in PUBLISHED.items())
    return canvas, title, f"{title}, with 95 % intervals; dashed: published, {pair}. {'; '.join(said)}."


def _line(axes: Axes, name: str, index: int, shown: Mapping[float, Interval]) -> None:
    """The ratios with their intervals, each as far as one is known."""
    colour, dashes = style_of(index)
    axes.plot(
        list(shown),
        [100 * math.expm1(ratio.value) for ratio in shown.values()],
        color=colour,
        linestyle=dashes,
        marker="o",
        markersize=2.5,
        label=name,
    )
    for eps, ratio in shown.items():
        if ratio.low is not None and ratio.high is not None:
            ends = [100 * math.expm1(ratio.low), 100 * math.expm1(ratio.high)]
            axes.plot([eps, eps], ends, color=colour, linewidth=0.8)
