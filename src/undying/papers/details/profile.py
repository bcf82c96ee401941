"""How often the units of each site fire."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from undying._base.text import markdown
from undying.lab.store import Store
from undying.papers.details.protocol import Drawn, Section, at_its_rate
from undying.papers.page.cells import points_of
from undying.papers.results import RunResult
from undying.papers.table import Scale, Task
from undying.papers.verdicts import estimate
from undying.plots.theme import WIDE, style_of
from undying.statistics.interval import Interval

_BINS = 20
_EDGES = [i / _BINS for i in range(-1, _BINS + 1)]


@dataclass(frozen=True)
class Profile(Section):
    """How often the units of one task's networks fire, by arm."""

    task: Task
    arms: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]
    """Arm -> site -> seed -> share of values above 0, in [0, 1], an entry a unit."""

    @classmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Profile | None:
        """Of every arm that has runs; from the last census of each, which a diverged run has from before."""
        arms: dict[str, dict[str, dict[int, Sequence[float]]]] = {}
        for o in at_its_rate(task, results):
            config = o.planned.config
            counted = store.census(config)
            for site in counted.sites if counted else ():
                arms.setdefault(o.planned.arm, {}).setdefault(site.name, {})[config.seed] = site.firing_rate.tolist()
        return cls(task, arms) if arms else None

    @property
    def sites(self) -> tuple[str, ...]:
        """In the order of the forward pass."""
        return tuple(next(iter(self.arms.values())))

    def share(self, arm: str, site: str, at_most: float) -> Interval:
        """Of the units that fire at no more than this share of values: mean over the seeds."""
        return estimate([_share(rates, at_most) for rates in self.arms[arm][site].values()])

    def difference(self, arm: str, against: str, site: str, at_most: float) -> Interval | None:
        """Of these shares, paired by seed; None without a pair."""
        first, second = self.arms[arm][site], self.arms[against][site]
        pairs = [_share(first[seed], at_most) - _share(second[seed], at_most) for seed in first if seed in second]
        return estimate(pairs) if pairs else None

    def table(self) -> list[str]:
        first, *others = self.arms
        rows: list[tuple[str, ...]] = [
            (
                "site",
                "units",
                *(f"`{arm}`, {what}" for what in ("never, %", "at most 1 %, %") for arm in self.arms),
                *(f"`{arm}` minus `{first}` at most 1 %, points" for arm in others),
            )
        ]
        rows += [
            (
                f"`{site}`",
                str(len(next(iter(self.arms[first][site].values())))),
                *(f"{100 * self.share(arm, site, at_most).value:.1f}" for at_most in (0.0, 0.01) for arm in self.arms),
                *(points_of(self.difference(arm, first, site, 0.01)) for arm in others),
            )
            for site in self.sites
        ]
        return [
            "Share of the units of each site that never fire, and that fire at no more than 1 % of samples and positions; mean "
            "over the seeds, the difference paired by seed with its 95 % interval.",
            markdown(rows),
        ]

    def figures(self, scale_name: str) -> Drawn:
        return {"profile": _histograms(self, scale_name)}


def _histograms(profile: Profile, scale_name: str) -> tuple[Canvas, str, str]:
    """A histogram of the firing rates of each site's units, with a bin of its own for those that never fire."""
    columns = 4
    rows = math.ceil(len(profile.sites) / columns)
    canvas = Canvas(figsize=(WIDE + 1, 1.25 * rows + 0.8), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False).flat
    said = []
    for site, axes in zip(profile.sites, panels, strict=False):  # sites first: a panel drawn too many would be lost
        for i, (arm, sites) in enumerate(profile.arms.items()):
            heights = _histogram([rate for rates in sites[site].values() for rate in rates])
            colour, line = style_of(i)
            axes.stairs(heights, _EDGES, color=colour, linestyle=line, linewidth=1.2, label=arm)
            said.append(f"{arm} {site} {heights[0]:.1f}")
        axes.set_title(site, fontsize=7)
        axes.set_xticks([_EDGES[0] / 2, 0.5, 1], ["never", "50 %", "100 %"], fontsize=6)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(axis="y", labelsize=6)
    for axes in panels:  # those left over
        axes.set_axis_off()
    canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    canvas.supylabel("Units of the site (%)", fontsize=8)
    where = f"{profile.task.name} on {profile.task.data}, rate {profile.task.lr:g}, {scale_name} scale"
    title = f"How often units fire, {where}"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=9)
    told = "Share of values above 0, histogram over the units of all seeds, a panel a site; the first bin never fires"
    return canvas, title, f"{title}. {told}. Units that never fire, %: {'; '.join(said)}."


def _share(rates: Sequence[float], at_most: float) -> float:
    return sum(rate <= at_most for rate in rates) / len(rates)


def _histogram(rates: Sequence[float]) -> list[float]:
    """Percentages of the units: of those that never fire, then by rate.

    >>> _histogram([0.0, 0.0, 0.001, 1.0])[:2], _histogram([0.0, 0.0, 0.001, 1.0])[-1]
    ([50.0, 25.0], 25.0)
    """
    counts = [0] * (_BINS + 1)
    for rate in rates:
        counts[math.ceil(rate * _BINS) if rate > 0 else 0] += 1
    return [100 * count / len(rates) for count in counts]
