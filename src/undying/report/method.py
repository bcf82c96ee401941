"""How a comparison was made and judged, in sentences for a paper, with what they cite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import scipy

from undying.lab.results import Results
from undying.report.words import listed, noun, tuned
from undying.statistics.records import Comparison
from undying.statistics.summaries import RESAMPLES

REFERENCES = {
    "Efron 1987": "B. Efron, “Better bootstrap confidence intervals”, JASA 82(397), 171–185, 1987.",
    "Holm 1979": "S. Holm, “A simple sequentially rejective multiple test procedure”, Scand. J. Statist. 6(2), 65–70, 1979.",
    "Phipson & Smyth 2010": "B. Phipson, G. K. Smyth, “Permutation p-values should never be zero”, Stat. Appl. Genet. Mol. "
    "Biol. 9(1), 39, 2010.",
    "Schuirmann 1987": "D. J. Schuirmann, “A comparison of the two one-sided tests procedure and the power approach”, "
    "J. Pharmacokinet. Biopharm. 15(6), 657–680, 1987.",
}


@dataclass(frozen=True)
class Method:
    """Sentences, and the references in them."""

    text: str
    references: list[str]


def method(results: Results) -> Method:
    """Of these results: what was trained, the intervals, the tests, the corrections and the versions."""
    judged = _judged(results)
    said = [
        _trained(results),
        *_tuned(results),
        "Means are over the runs, with 95 % BCa bootstrap intervals (Efron 1987).",
    ]
    if judged:
        said.append(
            f"Differences from {results.baseline.name} were tested on {counted(judged)} pairs of runs with the same seed, by "
            f"two-sided permutation tests of the sign of each difference ({_flips(judged)})."
        )
        metrics = listed([metric.title for metric in results.metrics])
        said.append(
            f"p-values are after Holm's correction (Holm 1979) over {_comparisons(len(judged))} of {metrics}{_silent(results)}; "
            "the level is 5 %."
        )
    margin = next((found.margin for found in judged if found.margin), None)
    if margin is not None:
        [written] = results.metric.differences(margin)
        said.append(
            f"Two are called equal in {results.metric.title} where two one-sided permutation tests (Schuirmann 1987) show their "
            f"difference to be below {f'{written} {results.metric.difference_unit}'.rstrip()}, after the same correction."
        )
    said.append(f"Computed with {_versions(results)}.")
    text = " ".join(said)
    return Method(text, [full for short, full in REFERENCES.items() if short in text])


def counted(judged: Iterable[Comparison]) -> str:
    """The number of pairs, ``6`` or ``6 to 8``."""
    pairs = [found.wins + found.ties + found.losses for found in judged]
    return f"{min(pairs)}" if min(pairs) == max(pairs) else f"{min(pairs)} to {max(pairs)}"


def _judged(results: Results) -> list[Comparison]:
    """Those that are corrected together."""
    names = [metric.name for metric in results.metrics]
    return [other.comparisons[name] for other in results.activations[1:] for name in names if name in other.comparisons]


def _trained(results: Results) -> str:
    arms = f"{len(results.activations)} {noun(results)}s"
    if results.imported:
        return f"Scores of {arms} with up to {len(results.seeds)} seeds each, {results.finished} runs in all, were compared."
    settings = results.settings
    agents = settings.get("task") == "rl"
    epochs = f"{settings['epochs']} epoch{'s' * (settings['epochs'] > 1)}"
    length = f"{settings['steps']:,} steps of the environment" if agents else epochs
    part = f" ({results.finished} of {results.planned} runs are finished)" if results.partial else ""
    return (
        f"{settings['model']} was trained on {results.data['name']} with {arms} and {settings['seeds']} seeds each, "
        f"{length} a run{part}; runs with the same seed share initial weights{'' if agents else ' and order of the data'}."
    )


def _tuned(results: Results) -> list[str]:
    chosen = tuned(results)
    if not chosen:
        return []
    return [f"Each is judged at its own best of a grid, chosen on data held out from the test: {'; '.join(chosen)}."]


def _flips(judged: Iterable[Comparison]) -> str:
    exact = {2 ** (found.wins + found.ties + found.losses) <= RESAMPLES for found in judged}
    random = f"{RESAMPLES} random flips and the observed one, Phipson & Smyth 2010"
    if exact == {True}:
        return "exact: all flips are counted"
    return random if exact == {False} else f"exact where there are at most {RESAMPLES} flips, else {random}"


def _comparisons(number: int) -> str:
    return f"{number} comparison{'s' * (number > 1)}"


def _silent(results: Results) -> str:
    number = sum("silent" in other.comparisons for other in results.activations[1:])
    return f", and over {_comparisons(number)} of silent units apart" if number and not results.imported else ""


def _versions(results: Results) -> str:
    environment = results.environment
    known = [
        f"{title} {environment[key]}"
        for key, title in (("torch", "PyTorch"), ("python", "Python"))
        if key in environment
    ]
    return listed([f"undying {results.undying}", f"SciPy {environment.get('scipy', scipy.__version__)}", *known])
