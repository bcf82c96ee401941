"""The main table for a paper: booktabs, a row an arm, and a line of notes."""

from __future__ import annotations

from undying._base.text import clean, known
from undying.lab.results import ActivationResult, Results
from undying.report.method import counted
from undying.report.words import MINUS, listed, noun, points
from undying.statistics.metric import SILENT, Metric
from undying.statistics.records import Comparison, Summary

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": "'",
    "−": "$-$",
    "–": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_NONE = "--"


def latex_table(results: Results) -> str:
    """A ``tabular`` that needs ``\\usepackage{booktabs}``, and its notes below.

    For each metric the mean with its 95 % interval, the difference from the baseline and p after Holm's correction; then
    silent units, where they were counted.
    """
    metrics = list(results.metrics)
    heads = [_head(noun(results).capitalize(), "")]
    for metric in metrics:
        heads += [_head(metric.heading, metric.written_unit), _head("Difference", metric.difference_unit), "$p$"]
    if not results.imported:
        heads.append(_head("Silent units", "%"))
    rows = [_row(activation, results) for activation in results.activations]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and, for quotation marks in names, \usepackage[T1]{fontenc}.",
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            _line(heads),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            rf"{{\footnotesize {_notes(results)}\par}}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text as LaTeX prints it.

    >>> print(escaped("50 % of a_b & c"))
    50 \\% of a\\_b \\& c
    """
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(clean(text).split()))


def _head(title: str, unit: str) -> str:
    return escaped(f"{title} ({unit})" if unit else title)


def _line(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _row(activation: ActivationResult, results: Results) -> list[str]:
    cells = [escaped(activation.name)]
    for metric in results.metrics:
        cells += [_mean(activation.scores[metric.name], metric)]
        cells += _compared(activation.comparisons.get(metric.name), metric, activation is results.baseline)
    if not results.imported:
        cells.append(_mean(activation.silent, SILENT))
    return cells


def _mean(summary: Summary | None, metric: Metric) -> str:
    if summary is None or not known(summary.mean):
        return _NONE
    if not known(summary.low) or not known(summary.high):
        return _signed(metric.number(summary.mean))
    low, high = (_signed(metric.number(end)) for end in (summary.low, summary.high))
    return f"{_signed(metric.number(summary.mean))} [{low}, {high}]"


def _signed(number: str) -> str:
    """With a minus for a hyphen at the beginning."""
    return number.replace("-", "$-$", 1) if number.startswith("-") else number


def _compared(comparison: Comparison | None, metric: Metric, baseline: bool) -> list[str]:
    if comparison is None:
        return ["", ""] if baseline else [_NONE, _NONE]
    p = "$<$ 0.001" if comparison.p_holm < 0.001 else f"{comparison.p_holm:.3f}"
    return [points(comparison.difference, metric).replace(MINUS, "$-$"), p]


def _notes(results: Results) -> str:
    judged = [found for other in results.activations[1:] for found in other.comparisons.values()]
    if not judged:
        return escaped("Mean with 95 % BCa bootstrap interval.")
    together = sum(metric.name in other.comparisons for other in results.activations[1:] for metric in results.metrics)
    said = (
        f"Mean with 95 % BCa bootstrap interval; difference from {results.baseline.name} over n = {counted(judged)} seeds; p of "
        "the two-sided paired permutation test after Holm's correction over "
        f"{together} comparison{'s' * (together > 1)}."
    )
    equal = [
        other.name for other in results.activations[1:] if other.comparison and other.comparison.verdict == "equal"
    ]
    if equal:
        said += f" Equal within the margin (two one-sided tests): {listed(equal)}."
    return escaped(said).replace("n = ", "$n = $ ")
