"""The figures of the report. Each says in words what it shows, for those who cannot see it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from undying._base.text import clip, known
from undying.lab.results import ActivationResult, Results
from undying.plots import theme
from undying.plots.curves import Line, Panel, multiples, numbers, panels
from undying.plots.dots import Row, dots, forest
from undying.plots.theme import NARROW, as_pdf, as_png, styled
from undying.report.drawing import Drawing, Figure
from undying.report.layer_figures import layers
from undying.report.words import (
    UNKNOWN,
    at_end,
    interval,
    minus,
    noun,
    paired,
    points,
    product_name,
    ratio,
    seconds_ratio,
    seconds_ratios,
)
from undying.statistics.aggregates import performance_profile
from undying.statistics.metric import SILENT, Metric
from undying.statistics.records import Summary

FEW = 8
"""Most activations whose curves can be told apart in one set of axes; more get a small panel each."""


FIRST = "differences"
"""Name of the figure that a page begins with."""

PRINTED = {"pdf": as_pdf, "png": as_png}
"""Format of a file for print -> what makes it."""

FORMATS = ("svg", *PRINTED)


def draw(results: Results) -> list[Figure]:
    """All figures, in the order of the page. Leaves matplotlib's settings as they were."""
    with styled():
        return [drawing.placed() for drawing in _all(results)]


def printed(results: Results, formats: Sequence[str]) -> dict[str, bytes]:
    """The same figures as files of these formats, of those in ``PRINTED``: by the file's name."""
    wanted = [name for name in PRINTED if name in formats]
    with theme.printed():
        drawings = _all(results) if wanted else []
        return {f"{drawing.name}.{name}": PRINTED[name](drawing.canvas) for drawing in drawings for name in wanted}


def _all(results: Results) -> list[Drawing]:
    return [
        *differences(results),
        *(scores(results, metric) for metric in results.metrics),
        *(_imported(results) if results.imported else _trained(results)),
    ]


def _trained(results: Results) -> list[Drawing]:
    return [
        silent_units(results),
        *learning(results),
        *([] if results.baseline.aggregates else norms(results)),
        *layers(results, "silent"),
        *layers(results, "dead"),
        *recycled(results),
        *profiles(results),
        *sparsity(results),
        cost(results),
    ]


def _imported(results: Results) -> list[Drawing]:
    """The curve of each metric that has one in every arm: they need not share their steps, so each has its own figure."""
    lines = [_Line(f"test_{metric.name}", metric.column, metric.factor) for metric in results.metrics]
    drawn = [line for line in lines if all(activation.curves[line.key].median for activation in results.activations)]
    return [
        figure
        for line in drawn
        for figure in _curves(results, line.key.replace("test_", "curve-", 1), "Curves", [line])
    ]


def draw_few(results: Results, prefix: str) -> list[Figure]:
    """What a page of several comparisons shows of one: the deciding score, silent units, and how both came about.

    Args:
        prefix: put before the names, since ids are unique in a page.
    """
    with styled():
        drawings = [
            *differences(results, prefix),
            scores(results, results.metric, prefix),
            silent_units(results, prefix),
            learning(results, prefix)[0],
            *layers(results, "silent", prefix),
        ]
        return [drawing.placed() for drawing in drawings]


def differences(results: Results, prefix: str = "") -> list[Drawing]:
    """The deciding score of each activation less the baseline's, paired by seed; nothing without a pair."""
    metric, baseline = results.metric, product_name(results.baseline.name)
    others = results.activations[1:]
    if not any(other.comparison for other in others):
        return []
    rows = [_difference_row(results, other) for other in others]
    margins = [other.comparison.margin for other in others if other.comparison and other.comparison.margin]
    margin = metric.factor * margins[0] if margins else None
    unit = f" ({metric.difference_unit.strip()})" if metric.difference_unit else ""
    sides = {True: "right of the line: better", False: "left of the line: better", None: ""}[metric.higher_is_better]
    caption = (
        f"Each {noun(results)}’s {metric.title} less {baseline}’s, seed by seed. Large dots: mean, with its 95 % interval. Small "
        "dots: single seeds; a triangle at the edge is one outside the axis."
    )
    if margin is not None:
        caption += f" Grey: within the margin of {points(margins[0], metric).lstrip('+')}, which does not matter."
    said = "; ".join(
        f"{other.name} {row.text}" + (f" {row.said}" * bool(row.said)) for other, row in zip(others, rows, strict=True)
    )
    title = f"{metric.heading}, difference from {baseline}"
    return [
        Drawing(
            forest(rows, f"{clip(title, 40)}{unit}", NARROW, margin, sides),
            f"{prefix}{FIRST}",
            f"{title}{at_end(results)}",
            caption,
            f"{title}{unit}{at_end(results)}, mean over the pairs with its 95 % interval: {said}.",
        )
    ]


def _difference_row(results: Results, activation: ActivationResult) -> Row:
    name, found, metric = clip(activation.name, 18), activation.comparison, results.metric
    if found is None:
        return Row(name, "no pair", None)
    base = dict(zip(results.baseline.seeds, results.baseline.score.values, strict=True))
    pairs = {
        seed: value - base[seed]
        for seed, value in zip(activation.seeds, activation.score.values, strict=True)
        if seed in base
    }
    mean, low, high = (
        None if value is None else metric.factor * value for value in (found.difference, found.low, found.high)
    )
    text, interval = paired(found, metric)
    notes = [f"seed {seed}: {points(value, metric)}" for seed, value in pairs.items()]
    values = [metric.factor * value for value in pairs.values()]
    return Row(name, text, mean, low, high, values, _places(results, list(pairs)), notes, interval)


def scores(results: Results, metric: Metric, prefix: str = "") -> Drawing:
    """A metric of each activation: mean, interval and runs."""
    return _means(
        results,
        metric,
        f"{prefix}{metric.name}",
        [activation.scores[metric.name] for activation in results.activations],
    )


def silent_units(results: Results, prefix: str = "") -> Drawing:
    """Silent units of each activation: mean, interval and runs."""
    units = replace(SILENT, title="silent units")
    return _means(results, units, f"{prefix}silent", [activation.silent for activation in results.activations])


def _means(results: Results, metric: Metric, name: str, summaries: Sequence[Summary | None]) -> Drawing:
    rows = [
        _mean_row(results, metric, activation, summary)
        for activation, summary in zip(results.activations, summaries, strict=True)
    ]
    said = "; ".join(
        f"{activation.name} {_mean_in_words(metric, summary)}"
        for activation, summary in zip(results.activations, summaries, strict=True)
    )
    return Drawing(
        dots(rows, metric.column, NARROW),
        name,
        f"{metric.heading}{at_end(results)}",
        "Large dots: mean, with its 95 % interval. Small dots: single seeds; a triangle at the edge is a run outside the "
        f"axis. Dashed line: {product_name(results.baseline.name)}.",
        f"{metric.heading}{at_end(results)}, mean over the runs: {said}.",
    )


def _mean_in_words(metric: Metric, summary: Summary | None) -> str:
    if summary is None or not known(summary.mean):
        return UNKNOWN
    if not known(summary.low) or not known(summary.high):
        return minus(metric.written(summary.mean))
    return minus(
        f"{metric.written(summary.mean)}, 95 % interval {metric.number(summary.low)} to {metric.written(summary.high)}"
    )


def _mean_row(results: Results, metric: Metric, activation: ActivationResult, summary: Summary | None) -> Row:
    name = clip(activation.name, 18)
    if summary is None:
        return Row(name, UNKNOWN, None)
    mean, low, high = (
        None if value is None else metric.factor * value for value in (summary.mean, summary.low, summary.high)
    )
    text = minus(metric.number(summary.mean)) if known(mean) else UNKNOWN
    values = [metric.factor * value for value in summary.values]
    notes = [
        f"seed {seed}: {minus(metric.written(value))}"
        for seed, value in zip(activation.seeds, summary.values, strict=True)
    ]
    return Row(
        name, text, mean, low, high, values, _places(results, activation.seeds), notes, interval(summary, metric)
    )


def _places(results: Results, seeds: Sequence[int]) -> list[float]:
    """A seed has the same place above or below the line in every row, so that pairs can be followed by eye."""
    every = sorted({seed for activation in results.activations for seed in activation.seeds})
    most = len(every) - 1
    return [every.index(seed) / most - 0.5 if most else 0.0 for seed in seeds]


_SHARED = (
    "No ratio is given between runs that were trained together, whose seconds are shares of what several took, and runs that "
    "were trained alone."
)


def cost(results: Results) -> Drawing:
    """Seconds a run, over the baseline's of the same seed."""
    reference = results.baseline
    rows, said = [], []
    for index, activation in enumerate(results.activations):
        assert activation.seconds is not None
        middle, pairs = seconds_ratio(results, index), seconds_ratios(results, index)
        rows.append(
            Row(
                clip(activation.name, 18),
                ratio(middle) if known(middle) else UNKNOWN,
                middle,
                values=list(pairs.values()),
                places=_places(results, list(pairs)),
                notes=[f"seed {seed}: {ratio(value)}" for seed, value in pairs.items()],
            )
        )
        said.append(f"{activation.name} {ratio(middle)} ({statistics.median(activation.seconds.values):.3g} s)")
    baseline = product_name(reference.name)
    return Drawing(
        dots(rows, f"Seconds a run, relative to {clip(baseline, 20)}", NARROW),
        "cost",
        "Cost of a run",
        f"Small dots: seconds of a run over those of {baseline}’s run with the same seed. Large dots: their median. "
        "A triangle is a run outside the axis. Runs share "
        "a machine, so small differences mean nothing. "
        + _SHARED
        * (len({activation.together for activation in results.activations} | {reference.together}) > 1),
        f"Seconds of a run relative to {baseline}, median over the seeds: {'; '.join(said)}.",
    )


def learning(results: Results, prefix: str = "") -> list[Drawing]:
    """The deciding score by epoch, and the training loss where there is one: agents have none that is alike."""
    lines = [_Line(f"test_{results.metric.name}", results.metric.column, results.metric.factor)]
    if not results.baseline.aggregates:
        lines.append(_Line("train_loss", "Training loss", log=True))
    return _curves(results, f"{prefix}learning", "Learning curves", lines)


def norms(results: Results) -> list[Drawing]:
    """Gradient and update norm by epoch."""
    return _curves(
        results,
        "norms",
        "Gradient and update norms",
        [_Line("gradient_norm", "Gradient norm", log=True), _Line("update_norm", "Update norm", log=True)],
    )


def sparsity(results: Results) -> list[Drawing]:
    """Share of outputs that are exactly 0, by epoch."""
    return _curves(results, "sparsity", "Sparsity", [_Line("sparsity", "Outputs that are exactly 0 (%)", 100)])


def recycled(results: Results) -> list[Drawing]:
    """Units made anew so far, by epoch, of the treatments that do so; nothing where none does."""
    recycling = [arm for arm, activation in enumerate(results.activations) if activation.recycled is not None]
    if not recycling:
        return []
    shown = replace(results, activations=[results.activations[arm] for arm in recycling])
    drawings = _curves(shown, "recycled", "Recycled units", [_Line("recycled", "Units recycled so far")])
    return [replace(drawing, arms=recycling) for drawing in drawings]


def profiles(results: Results) -> list[Drawing]:
    """Of agents: the share of runs above each return; nothing for other tasks."""
    if not results.baseline.aggregates:
        return []
    metric = results.metric
    every = [value for activation in results.activations for value in activation.score.values]
    low, high = min(every), max(every)
    thresholds = [low + (high - low) * step / 50 for step in range(51)]
    lines = []
    for activation in results.activations:
        shares = performance_profile(activation.score.values, thresholds)
        sides = ([100 * getattr(share, side) for share in shares] for side in ("value", "low", "high"))
        lines.append(Line(activation.name, thresholds, *sides))
    said = "; ".join(
        f"{line.name} {next((minus(f'{at:.4g}') for at, share in zip(thresholds, line.middle, strict=True) if share <= 50), '')}"
        for line in lines
    )
    return [
        Drawing(
            panels([Panel("Runs above (%)", lines, over=metric.column)]),
            "profile",
            "Performance profile",
            f"Share of runs with a {metric.title} above the value below; the band is its 95 % interval, point by point.",
            f"Half of the runs are above: {said}.",
        )
    ]


@dataclass(frozen=True)
class _Line:
    """One of the curves of an activation."""

    key: str
    label: str
    factor: float = 1
    log: bool = False


def _curves(results: Results, name: str, title: str, metrics: Sequence[_Line]) -> list[Drawing]:
    """One figure of all activations' lines or, where they could not be told apart, one of small panels a number."""
    shown = [_panel(results, metric) for metric in metrics]
    if len(results.activations) <= FEW:
        caption = "Median over the runs; the band holds the middle half of them."
        return [Drawing(panels(shown), name, title, caption, " ".join(map(_curves_in_words, shown)))]
    caption = (
        "Line: median over the runs; the band holds the middle half of them. Dashed: "
        f"{product_name(results.baseline.name)}. All panels have the same scale."
    )
    return [
        Drawing(multiples(panel), f"{name}-{metric.key}", panel.title, caption, _curves_in_words(panel))
        for metric, panel in zip(metrics, shown, strict=True)
    ]


def _panel(results: Results, metric: _Line) -> Panel:
    """Epoch 0 is before training."""
    lines = []
    for activation in results.activations:
        curve = activation.curves[metric.key]
        middle, low, high = (numbers(of, metric.factor) for of in (curve.median, curve.low, curve.high))
        steps = range(len(middle)) if curve.steps is None else curve.steps
        lines.append(Line(activation.name, steps, middle, low, high))
    return Panel(
        metric.label,
        lines,
        metric.log,
        "Step" if any(activation.curves[metric.key].steps for activation in results.activations) else "Epoch",
    )


def _curves_in_words(panel: Panel) -> str:
    said = []
    for line in panel.lines:
        values = line.measured().middle
        said.append(
            f"{line.name} {minus(f'{values[0]:.3g} to {values[-1]:.3g}')}" if values else f"{line.name} not known"
        )
    return f"{panel.title}, median over the runs, first to last {panel.over.lower()}: {'; '.join(said)}."
