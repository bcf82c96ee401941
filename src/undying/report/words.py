"""How numbers, names and the overall finding are put into words, the same in the page, the figures and the terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from datetime import datetime, timezone

from undying._base.text import known
from undying.lab.grid import written
from undying.lab.results import ActivationResult, Results
from undying.statistics.metric import ACCURACY, Metric
from undying.statistics.records import Comparison, Summary

MISSING = "–"
UNKNOWN = "unknown"
"""Said of units where an activation has no such state, or it was never counted: not the same as 0."""
MINUS = "−"

VERDICTS = {
    "higher": "higher",
    "lower": "lower",
    "equal": "equal within the margin",
    "none": "no difference detected",
    "cannot tell": "cannot tell",
}
"""A comparison's verdict as it is shown."""


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date.

    >>> moment(0)
    '1970-01-01 00:00:00 UTC'
    """
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def percent(share: float | None) -> str:
    """A share in [0, 1].

    >>> percent(0.9716)
    '97.2 %'
    """
    return f"{100 * share:.1f} %" if known(share) else MISSING


def mean_share(summary: Summary | None) -> str:
    """Mean of a share that may not be known of an activation.

    >>> mean_share(None)
    'unknown'
    """
    return percent(summary.mean) if summary is not None and known(summary.mean) else UNKNOWN


def signed(value: float | None) -> str:
    """Two decimals with a sign, and none for a zero.

    >>> signed(0.256), signed(-0.001)
    ('+0.26', '0.00')
    """
    if not known(value):
        return MISSING
    rounded = round(value, 2)
    return f"{rounded:+.2f}".replace("-", MINUS) if rounded else "0.00"


def minus(number: str) -> str:
    """A written number with the sign of a minus in place of its hyphens.

    >>> minus("-0.5")
    '−0.5'
    """
    return number.replace("-", MINUS)


def points(difference: float | None, metric: Metric = ACCURACY) -> str:
    """A difference with its sign, with as many digits as a sentence gives it: of two shares in percentage points.

    >>> points(0.0421), points(-12.345, Metric("rmse"))
    ('+4.2', '−12')
    """
    if not known(difference):
        return MISSING
    [number] = metric.differences(difference)
    return _signed(number)


def paired(found: Comparison, metric: Metric) -> tuple[str, str]:
    """A difference and its interval, with as many decimals; the interval is empty where there is none.

    >>> paired(Comparison(0.012, -0.001, 0.025, 0.1, 0.1, None, 8, 0, 2, "none", ""), ACCURACY)
    ('+1.2', '[−0.1, +2.5]')
    """
    if not known(found.low) or not known(found.high):
        return points(found.difference, metric), ""
    number, low, high = metric.differences(found.difference, found.low, found.high)
    return _signed(number), f"[{_signed(low)}, {_signed(high)}]"


def interval(summary: Summary | None, metric: Metric) -> str:
    """The 95 % interval of a mean as a table shows it; empty where there is none.

    >>> interval(Summary([], 0.95, 0.94, 0.961, 0.95), ACCURACY)
    '[94.0, 96.1]'
    """
    if summary is None or not known(summary.low) or not known(summary.high):
        return ""
    return minus(f"[{metric.number(summary.low)}, {metric.number(summary.high)}]")


def _signed(number: str) -> str:
    return minus(number if number.startswith("-") or not number.strip("0.") else f"+{number}")


def digits(number: float) -> str:
    """Two significant digits, for a tick or a contour.

    >>> digits(1234.5), digits(0.0123)
    ('1200', '0.012')
    """
    return f"{float(f'{number:.2g}'):g}"


def probability(p: float) -> str:
    """A p-value.

    >>> probability(0.03125), probability(0.0002)
    ('0.031', '< 0.001')
    """
    if not known(p):
        return MISSING
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def ratio(value: float | None) -> str:
    """
    >>> ratio(1.316)
    '1.32×'
    """
    return f"{value:.2f}×" if known(value) else MISSING


def seconds_ratios(results: Results, index: int) -> dict[int, float]:
    """Seconds of each run of one activation over those of the baseline's run with the same seed; empty also where runs of
    one shared their seconds and those of the other did not."""
    activation, baseline = results.activations[index], results.baseline
    own, reference = activation.seconds, baseline.seconds
    if own is None or reference is None or activation.together is None or activation.together != baseline.together:
        return {}
    base = dict(zip(baseline.seeds, reference.values, strict=True))
    pairs = zip(activation.seeds, own.values, strict=True)
    return {seed: seconds / base[seed] for seed, seconds in pairs if base.get(seed, 0) > 0}


def seconds_ratio(results: Results, index: int) -> float | None:
    """Their median, which one run on a busy machine does not move; None without a pair."""
    ratios = seconds_ratios(results, index)
    return statistics.median(ratios.values()) if ratios else None


def noun(results: Results) -> str:
    """What is compared."""
    return "arm" if results.imported else "activation"


def at_end(results: Results) -> str:
    """When scores were taken, after their name; nothing where only their files know."""
    return "" if results.imported else " after the last epoch"


def verdict(activation: ActivationResult) -> str:
    """Of the metric that decides: a key of ``VERDICTS``. Without a seed that the baseline has too, nothing can be told."""
    return activation.comparison.verdict if activation.comparison else "cannot tell"


def praise(verdict: str, metric: Metric) -> str:
    """``"better"`` or ``"worse"``, where a verdict is one of them."""
    return metric.praise(verdict == "higher") if verdict in ("higher", "lower") else ""


def tuned(results: Results) -> list[str]:
    """Of each arm, the point of the grid that it is judged at, and the value to add where that is at an end."""
    arms = results.tuning.arms if results.tuning is not None else {}
    said = []
    for name, arm in arms.items():
        if all(tried.diverged == len(tried.score.values) for tried in arm.tried):
            said.append(f"{name}: every run diverged, so that nothing was chosen")
        else:
            end = f" (at the end of the grid: add {written(arm.add)})" if arm.add else ""
            said.append(f"{name}: {written(arm.chosen)}{end}")
    return said


def progress(results: Results) -> str:
    """How much of a comparison is there, in words; empty for all of it."""
    if not results.partial:
        return ""
    said = f"Partial: {results.finished} of {results.planned} runs finished"
    return f"{said}, none of {listed(results.unfinished)}." if results.unfinished else f"{said}."


def without_folder(line: str | None) -> str:
    """Where the user's code calls a site, as a page has room for it.

    >>> without_folder("/home/me/net.py:31"), without_folder(None)
    ('net.py:31', '')
    """
    return (line or "").replace("\\", "/").rpartition("/")[2]


def product_name(activation: str) -> str:
    """The name in a title: ``relu`` is written as everybody writes it."""
    return "ReLU" if activation == "relu" else activation


def lead(results: Results) -> str:
    """The finding in a sentence or two."""
    baseline = product_name(results.baseline.name)
    others = results.activations[1:]
    if not others:
        return f"Only {baseline} was trained, so there is nothing to compare it with."
    if all(activation.diverged == len(activation.seeds) for activation in results.activations):
        return "Every run diverged, so that there is nothing to compare; a smaller learning rate may help."
    found_of = Counter(map(verdict, others))
    title = results.metric.title
    silent = Counter(other.comparisons["silent"].verdict for other in others if "silent" in other.comparisons)
    differs = found_of["higher"] or found_of["lower"]
    lower = _reached(results.metric, False, "one" if found_of["higher"] else title)
    said = [
        (found_of["higher"], f"reached {_reached(results.metric, True, title)}"),
        (found_of["lower"], lower if found_of["higher"] else f"reached {lower}"),
        (found_of["equal"], f"equalled it in {title} within the margin"),
        (found_of["none"], f"showed no detectable difference in {'it' if differs else title}"),
        (found_of["cannot tell"], "had too few seeds for a verdict"),
    ]
    units = [(silent["lower"], "had fewer silent units"), (silent["higher"], "had more silent units")]
    if len(others) == 1:
        found = listed([words for number, words in said + units if number])
        return f"{'Compared with' if results.imported else 'In place of'} {baseline}, {others[0].name} {found}."
    tried = "arms compared with" if results.imported else "activations tried in place of"
    every = "both" if len(others) == 2 else f"all {len(others)}"
    counted = [(number, words) for number, words in said if number]
    if len(counted) == 1:
        found = f"{every.capitalize()} {tried} {baseline} {counted[0][1]}."
    else:
        found = f"Of {len(others)} {tried} {baseline}, {listed([f'{number} {words}' for number, words in counted])}."
    quiet = [f"{every if number == len(others) else number} {words}" for number, words in units if number]
    return f"{found} {listed(quiet).capitalize()}." if quiet else found


def _reached(metric: Metric, higher: bool, what: str) -> str:
    """``a lower test accuracy``; of a metric of which not everybody knows which way is better, that first."""
    way, praise = "higher" if higher else "lower", metric.praise(higher)
    return f"a {way} {what}" if metric == ACCURACY or not praise else f"a {praise} {what} ({way})"


def listed(parts: list[str]) -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
