"""Autoencoders by how sparse they were made: explained variance and dead latents of each, which a comparison at one L0 reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from undying._base.text import markdown
from undying.lab.runs.sae import SaeRun, points
from undying.lab.store import Store
from undying.papers.details.protocol import Drawn, Section, at_its_rate
from undying.papers.results import RunResult
from undying.papers.table import Scale, Task
from undying.papers.verdicts import estimate
from undying.plots.theme import INK, WIDE, entitle, plain_numbers, style_of

Points = Sequence[Mapping[str, float]]
"""Of one arm and strength, an entry a seed; see ``undying.lab.runs.sae.points``."""
SHOWN = {"explained": "Explained variance (%)", "dead": "Dead latents (%)"}


@dataclass(frozen=True)
class Sparsity(Section):
    """Every autoencoder of one task."""

    task: Task
    l0: int
    arms: Mapping[str, Mapping[float, Points]]
    """Arm -> weight of the penalty, or latents that TopK keeps -> the autoencoders."""

    @classmethod
    def read(cls, task: Task, scale: Scale, results: Sequence[RunResult], store: Store) -> Sparsity | None:
        arms: dict[str, dict[float, list[Mapping[str, float]]]] = {}
        l0 = 0
        for one in at_its_rate(task, results):
            config = one.planned.config
            assert isinstance(config, SaeRun)
            l0, of = config.l0, arms.setdefault(one.planned.arm, {})
            for line in one.epochs:
                for point in points([dict(line)], config.latents):
                    of.setdefault(line["pressure"], []).append(point)
        return cls(task, l0, arms) if arms else None

    def table(self) -> list[str]:
        rows: list[tuple[str, ...]] = [
            ("arm", "penalty or k", "n", "L0", "explained variance, %", "silent, %", "dead, %")
        ]
        for arm, of in self.arms.items():
            for pressure, found in sorted(of.items(), key=lambda item: _mean(item[1], "l0")):
                shares = (estimate([100 * point[name] for point in found]) for name in ("explained", "silent", "dead"))
                cells = (share.in_words("{:.1f}".format) for share in shares)
                rows.append((f"`{arm}`", f"{pressure:g}", str(len(found)), f"{_mean(found, 'l0'):.1f}", *cells))
        return [
            f"Every autoencoder, the sparsest of an arm first: mean over the seeds with its 95 % interval. The numbers at L0 = {self.l0} above "
            "lie between two of these, on a line over log L0 for each seed; where a seed has none below or none above, it has no number.",
            markdown(rows),
        ]

    def figures(self, scale_name: str) -> Drawn:
        canvas = Canvas(figsize=(WIDE, 3.6), layout="constrained")
        said = []
        for axes, (name, label) in zip(canvas.subplots(1, 2), SHOWN.items(), strict=True):
            for i, (arm, of) in enumerate(self.arms.items()):
                found = sorted((_mean(those, "l0"), 100 * _mean(those, name)) for those in of.values())
                colour, dashes = style_of(i)
                x, y = zip(*found, strict=True)
                axes.plot(x, y, color=colour, linestyle=dashes, marker="o", markersize=2.5, label=arm)
                told = ", ".join(f"{share:.1f} at {l0:.1f}" for l0, share in found)
                said.append(f"{name}, {arm}: {told}")
            axes.axvline(self.l0, color=INK.stand_in, linewidth=0.8)
            _over_l0(axes)
            axes.set_title(label, fontsize=8)
        canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
        title = f"Autoencoders by L0, {self.task.name}, {scale_name} scale"
        entitle(canvas, title)
        return {"by-l0": (canvas, title, f"{title}: means over the seeds, in per cent by L0. {'; '.join(said)}.")}


def _mean(those: Points, name: str) -> float:
    return fmean(point[name] for point in those)


def _over_l0(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain_numbers())
    axes.set_xlabel("L0")
