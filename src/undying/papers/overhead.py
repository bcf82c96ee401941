"""A table of wall-clock ratios instead of runs: the bench's forms against nn.ReLU, judged by the interval of the ratio."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying._base.files import write_text
from undying.bench.activations import measure_activations
from undying.bench.forms import BASELINE, FORMS
from undying.bench.machine import describe
from undying.bench.networks import NETWORK_BASELINE
from undying.bench.settings import ActivationSettings, TrainingSettings, short
from undying.bench.timing import Ratio, Timings
from undying.bench.training import measure_training
from undying.papers.verdicts import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED

FORMAT = 1
PARTS = ("forward", "forward + backward", "training step")


@dataclass(frozen=True)
class OverheadScale:
    """The table at one size."""

    activations: ActivationSettings
    training: TrainingSettings
    limits: tuple[str, ...]
    answers: bool = True

    @property
    def seconds(self) -> float:
        """That it takes at least, without warming up."""
        alone, steps = self.activations, self.training
        cases = len(alone.threads) * len(alone.sizes) * len(alone.dtypes)
        return 2 * cases * alone.seconds + len(steps.threads) * len(steps.models) * steps.seconds


@dataclass(frozen=True)
class Overhead:
    """A claim that an activation costs less than ``limit`` times what nn.ReLU does."""

    name: str
    says: str
    source: str
    limit: float
    forms: tuple[str, ...]
    """Of the bench, those that the claim is judged for; nn.ReLU and others are measured beside them."""
    scales: Mapping[str, OverheadScale]
    chosen: tuple[str, ...]


@dataclass(frozen=True)
class Timed:
    """One case: every form's seconds, and its ratio to the baselines."""

    part: str
    """One of ``PARTS``."""
    where: str
    seconds: Mapping[str, float]
    """Form -> median seconds of one call."""
    ratios: Mapping[str, Mapping[str, Ratio]]
    """Form -> baseline -> ratio."""

    def to_dict(self) -> dict[str, Any]:
        ratios = {form: {to: ratio.to_dict() for to, ratio in of.items()} for form, of in self.ratios.items()}
        return {"part": self.part, "where": self.where, "seconds": self.seconds, "ratios": ratios}


@dataclass(frozen=True)
class OverheadResult:
    """What was measured, as it is stored."""

    scale_name: str
    cases: tuple[Timed, ...]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    seconds: float
    """All of it together."""


@dataclass(frozen=True)
class Judged:
    """The claim for one form and part."""

    form: str
    to: str
    part: str
    worst: tuple[str, Ratio] | None
    """Where its median is highest; None where the form was not measured."""
    verdict: str


def measure(scale_name: str, scale: OverheadScale, started: Callable[[str], object]) -> OverheadResult:
    """Time everything of ``scale``, on a machine that should do nothing else; ``started`` is told what begins."""
    begun = time.perf_counter()
    cases = []
    for part, backward in ((PARTS[0], False), (PARTS[1], True)):
        told = _telling(started, part)
        for case in measure_activations(scale.activations, told, backward=backward):
            threads = f"{case.threads} thread{'s' * (case.threads > 1)}"
            cases.append(_timed(part, f"{short(case.size)} {case.dtype}, {threads}", case.timings))
    for step in measure_training(scale.training, _telling(started, PARTS[2])):
        threads = f"{step.threads} thread{'s' * (step.threads > 1)}"
        cases.append(_timed(PARTS[2], f"{step.model}, {threads}", step.timings))
    return OverheadResult(
        scale_name,
        tuple(cases),
        describe().to_dict(),
        {"activations": asdict(scale.activations), "training": asdict(scale.training)},
        time.perf_counter() - begun,
    )


def _telling(started: Callable[[str], object], part: str) -> Callable[[str], object]:
    return lambda what: started(f"{part}: {what}")


def _timed(part: str, where: str, timings: Timings) -> Timed:
    baselines = [name for name in (BASELINE, NETWORK_BASELINE) if name in timings.samples]
    return Timed(
        part,
        where,
        {form: timings.seconds(form) for form in timings.samples},
        {form: {to: timings.ratio(form, to) for to in baselines} for form in timings.samples},
    )


def judge(table: Overhead, result: OverheadResult) -> tuple[Judged, ...]:
    """The claim for every form and part, each against nn.ReLU of its own kind: in place, or not.

    It is supported if the 95 % interval of the ratio is below the limit in every case, not supported if it is above the
    limit in one, and cannot be told otherwise.
    """
    inplace = {form.name for form in FORMS if form.inplace}
    judged = []
    for form in table.forms:
        to = NETWORK_BASELINE if form in inplace else BASELINE
        for part in PARTS:
            found = [
                (case.where, case.ratios[form][to])
                for case in result.cases
                if case.part == part and form in case.ratios
            ]
            verdict = verdict_of([ratio for _, ratio in found], table.limit)
            judged.append(
                Judged(
                    form,
                    to,
                    part,
                    max(found, key=lambda pair: pair[1].value) if found else None,
                    verdict if table.scales[result.scale_name].answers else CANNOT_TELL,
                )
            )
    return tuple(judged)


def verdict_of(ratios: Sequence[Ratio], limit: float) -> str:
    """On a claim that each of ``ratios`` is below ``limit``.

    >>> verdict_of([Ratio(1.001, 0.998, 1.004, 50), Ratio(1.008, 1.001, 1.015, 50)], 1.0111)
    'cannot tell at this scale'
    """
    if ratios and all(ratio.high < limit for ratio in ratios):
        return SUPPORTED
    return NOT_SUPPORTED if any(ratio.low > limit for ratio in ratios) else CANNOT_TELL


def store(result: OverheadResult, path: Path) -> None:
    """Write ``result`` as JSON.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, **asdict(result), "cases": [case.to_dict() for case in result.cases]}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read(path: Path) -> OverheadResult:
    """What ``store`` wrote.

    Raises:
        UndyingError: there is nothing, or it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") > FORMAT:
            raise UndyingError(f"{path} was written by a newer undying; upgrade undying")
        cases = tuple(
            Timed(
                case["part"],
                case["where"],
                case["seconds"],
                {form: {to: _ratio(ratio) for to, ratio in of.items()} for form, of in case["ratios"].items()},
            )
            for case in content.pop("cases")
        )
        return OverheadResult(cases=cases, **content)
    except FileNotFoundError:
        raise UndyingError(f"{path} is not there: nothing was measured yet; leave out --page-only") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UndyingError(f"{path} cannot be read: it is damaged; delete it and measure again") from None


def _ratio(stored: Mapping[str, Any]) -> Ratio:
    return Ratio(stored["median"], stored["low"], stored["high"], stored["rounds"])
