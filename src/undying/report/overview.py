"""One page for several comparisons: which activation does how well where, then a section each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from scipy.stats import rankdata

from undying._base.errors import UndyingError
from undying._version import __version__
from undying.lab.results import ActivationResult, Results
from undying.plots.theme import THEME
from undying.report import words
from undying.report.drawing import Figure
from undying.report.figures import draw_few
from undying.report.html import environment, plain


@dataclass(frozen=True)
class Row:
    """One activation over all comparisons."""

    name: str
    results: list[ActivationResult | None]
    """In each; None where it is not, or has no finished run."""
    rank: float | None
    """Mean over the comparisons of its rank by mean score, 1 the best, among the activations that are in all of them;
    None for the others."""
    verdicts: Counter[str]


def overview(comparisons: Sequence[tuple[Path, Results]]) -> str:
    """The whole HTML document.

    Args:
        comparisons: (folder, results), in the order to show; at least one.

    Raises:
        UndyingError: they do not have the same baseline.
    """
    baselines = {results.baseline.name: out for out, results in comparisons}
    if len(baselines) > 1:
        said = ", ".join(f"{name} in {out}" for name, out in baselines.items())
        raise UndyingError(f"a page of several comparisons needs one baseline, the first activation of each: {said}")
    all_results = [results for _, results in comparisons]
    rows = rows_of(all_results)
    drawn = [draw_few(results, f"c{number}-") for number, results in enumerate(all_results, 1)]
    return (
        environment()
        .get_template("overview.html.j2")
        .render(
            baseline=words.product_name(all_results[0].baseline.name),
            lead=_lead(all_results),
            titles=_titles(all_results),
            comparisons=comparisons,
            rows=rows,
            places={row.name: place for place, row in enumerate(rows)},
            metrics=[results.metric for results in all_results],
            scored=_scored(all_results),
            leads=[words.lead(results) for results in all_results],
            # See html.page: matplotlib wrote the SVG.
            figures=[_placed(figures) for figures in drawn],
            undying=__version__,
            theme=THEME,
        )
    )


def rows_of(all_results: Sequence[Results]) -> list[Row]:
    """A row an activation: the baseline, then those that are in every comparison by rank, then the others by name."""
    by_name = [{activation.name: activation for activation in results.activations} for results in all_results]
    names = list(dict.fromkeys(name for known in by_name for name in known))
    shared = [name for name in names if all(name in known for known in by_name)]
    ranks = [
        rankdata(
            [-known[name].score.mean if results.metric.higher_is_better else known[name].score.mean for name in shared]
        )
        for known, results in zip(by_name, all_results, strict=True)
    ]
    mean_rank = {name: float(sum(rank[i] for rank in ranks)) / len(ranks) for i, name in enumerate(shared)}
    rows = []
    for name in names:
        found = [known.get(name) for known in by_name]
        verdicts = Counter(words.verdict(activation) for activation in found if activation is not None)
        rows.append(Row(name, found, mean_rank.get(name), verdicts))
    baseline, *others = rows
    return [baseline, *sorted(others, key=lambda row: (row.rank is None, row.rank or 0.0, row.name))]


def _titles(all_results: Sequence[Results]) -> list[str]:
    """What tells the comparisons apart: the data, then the network and other settings where they differ, then a number."""
    titles = [f"{results.data['name']}" for results in all_results]
    if len({results.settings["model"] for results in all_results}) > 1:
        titles = [f"{title}, {results.settings['model']}" for title, results in zip(titles, all_results, strict=True)]
    known = Counter(titles)
    titles = [
        ", ".join(
            [title, *_differing(results, [other for of, other in zip(titles, all_results, strict=True) if of == title])]
        )
        if known[title] > 1
        else title
        for title, results in zip(titles, all_results, strict=True)
    ]
    again = Counter(titles)
    return [f"{title} ({number})" if again[title] > 1 else title for number, title in enumerate(titles, 1)]


def _differing(results: Results, alike: Sequence[Results]) -> list[str]:
    """Settings of one comparison that are not the same in all of ``alike``, as in ``lr 0.01``."""
    names = [name for name in results.settings if name not in ("data", "model", "activations", "margin")]
    differing = [name for name in names if len({plain(other.settings.get(name)) for other in alike}) > 1]
    return [f"{name.replace('_', ' ')} {plain(results.settings[name])}" for name in differing]


def _lead(all_results: Sequence[Results]) -> str:
    """How many comparisons of an activation with the baseline found what."""
    found = Counter(words.verdict(other) for results in all_results for other in results.activations[1:])
    total = found.total()
    said = [f"{found[name]} {said.format(title=_scored(all_results))}" for name, said in _FOUND.items() if found[name]]
    baseline = words.product_name(all_results[0].baseline.name)
    return f"Of {total} comparisons with {baseline} on {len(all_results)} data sets or networks, {words.listed(said)}."


_FOUND = {
    "higher": "found a higher {title}",
    "lower": "found a lower {title}",
    "equal": "found equality within the margin",
    "none": "found no detectable difference",
    "cannot tell": "had too few seeds for a verdict",
}


def _scored(all_results: Sequence[Results]) -> str:
    """What all are scored by, in words."""
    titles = dict.fromkeys(results.metric.title for results in all_results)
    return words.listed(list(titles)) if len(titles) == 1 else "score"


def _placed(figures: Sequence[Figure]) -> list[tuple[Figure, Markup]]:
    return [(figure, Markup(figure.page)) for figure in figures]
