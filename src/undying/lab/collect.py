"""From the finished runs of a comparison to its results: the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from undying._base.errors import UndyingError
from undying._version import __version__
from undying.lab.finished import check_alike
from undying.lab.metric import ACCURACY, SILENT, Metric
from undying.lab.paired import compare_metrics, compare_pairs
from undying.lab.plan import Plan, stored
from undying.lab.results import ActivationResult, Comparison, Curve, Results, SiteHistory, Summary
from undying.lab.runs.classification import PROBE
from undying.lab.runs.kind import Run
from undying.lab.runs.lines import last_counted, share
from undying.lab.settings import Settings
from undying.lab.statistics import curve, summarise
from undying.lab.store import Store
from undying.lab.treatments import build_treatment

_CURVES = ("train_loss", "test_loss", "train_accuracy", "sparsity", "gradient_norm", "update_norm")


def collect(store: Store, settings: Settings, *, partial: bool = False) -> Results:
    """The results of a comparison that is in a store, see :func:`analyze`."""
    return analyze(stored(store, settings), partial=partial)


def analyze(plan: Plan, *, partial: bool = False) -> Results:
    """The results of a comparison.

    Args:
        plan: its runs, with those that are finished.
        partial: take whatever runs are finished; otherwise all must be.

    Raises:
        UndyingError: runs are missing (with ``partial``: all, or all of the baseline), or those of a seed do not start
            alike.
    """
    settings, out = plan.settings, plan.store.out
    command = settings.command(str(out))
    if plan.missing and not partial:
        raise UndyingError(
            f"{len(plan.missing)} of {len(plan.runs)} runs in {out} are not finished; resume with: {command}"
        )
    check_alike(plan.finished.values())
    runs = _by_activation(plan)
    baseline, *others = settings.activations
    if baseline not in runs:
        raise UndyingError(
            f"no run of the baseline {baseline} in {out} is finished ({len(plan.finished)} of {len(plan.runs)} runs are), "
            f"so there is nothing to compare with; 'undying runs {out}' lists them, resume with: {command}"
        )

    scores = {metric: scores_of(metric, runs, plan.data) for metric in plan.metrics}
    silent = {name: _known({run.config.seed: _share(run, "silent") for run in of}) for name, of in runs.items()}
    margins = [settings.margin / plan.metrics[0].factor or None, *[None] * (len(scores) - 1)]
    judged = compare_metrics(
        [(metric, _pairs(values), m) for (metric, values), m in zip(scores.items(), margins, strict=True)],
        baseline=baseline,
    )
    versus = {metric.name: found for metric, found in zip(scores, judged, strict=True)}
    versus["silent"] = compare_pairs(SILENT, _pairs(silent), baseline=baseline)
    return Results(
        undying=__version__,
        command=command,
        settings=asdict(settings),
        data=plan.data,
        metrics=list(scores),
        probe=min(PROBE, plan.data.get("probe", _trained_on(plan))),
        environment=runs[baseline][0].environment,
        activations=[
            _activation(
                name,
                runs[name],
                {metric.name: list(values[name].values()) for metric, values in scores.items()},
                {metric: found[name] for metric, found in versus.items() if name in found},
            )
            for name in (baseline, *others)
            if name in runs
        ],
        planned=len(plan.runs),
    )


def _by_activation(plan: Plan) -> dict[str, list[Run]]:
    """The finished runs of each activation that has any, by seed; the baseline comes first."""
    runs: dict[str, list[Run]] = {}
    for name in plan.settings.activations:
        own = [plan.finished[config] for config in plan.runs if config.activation == name and config in plan.finished]
        if own:
            runs[name] = own
    return runs


def _trained_on(plan: Plan) -> int:
    """Training samples that are left after the subset and the validation split."""
    number: int = plan.settings.subset or plan.data["train"]
    return number - round(plan.settings.validation * number)


def _activation(
    name: str, runs: Sequence[Run], scores: Mapping[str, Sequence[float]], comparisons: dict[str, Comparison]
) -> ActivationResult:
    diverged = sum(run.status == "diverged" for run in runs)
    losses = [run.epochs[-1].get("test_loss") for run in runs]
    recycled = _summary([run.epochs[-1].get("recycled") for run in runs])
    return ActivationResult(
        name=name,
        module=str(build_treatment(name)),
        seeds=[run.config.seed for run in runs],
        diverged=diverged,
        scores={metric: summarise(values) for metric, values in scores.items()},
        test_loss=None if diverged else _summary(losses),
        silent=_summary([_share(run, "silent") for run in runs]),
        dead=_summary([_share(run, "dead") for run in runs]),
        dormant=_summary([_share(run, "dormant") for run in runs]),
        sparsity=_summary([last_counted(run.epochs).get("sparsity") for run in runs]),
        seconds=summarise([run.seconds for run in runs]),
        comparisons=comparisons,
        curves={line: _curve(runs, line) for line in _lines(runs, scores, recycled is not None)},
        sites=_sites(runs),
        recycled=recycled,
        validation={name: [run.epochs[-1].get(name) for run in runs] for name in _held_out(runs)},
        refused={site: reason for run in runs for site, reason in run.epochs[-1].get("refused", {}).items()},
    )


def _held_out(runs: Sequence[Run]) -> list[str]:
    """What was measured on the share of the training data that is held out."""
    return list(dict.fromkeys(name for run in runs for name in run.epochs[-1] if name.startswith("validation_")))


def _pairs(values: Mapping[str, Mapping[int, float]]) -> dict[str, tuple[list[float], list[float]]]:
    """By name, the baseline's values and an activation's own over the seeds that both have, where there are any."""
    baseline, *others = values
    pairs = {}
    for name in others:
        shared = [seed for seed in values[name] if seed in values[baseline]]
        if shared:
            pairs[name] = [values[baseline][seed] for seed in shared], [values[name][seed] for seed in shared]
    return pairs


def scores_of(
    metric: Metric, runs: Mapping[str, Sequence[Run]], data: Mapping[str, Any], part: str = "test"
) -> dict[str, dict[int, float]]:
    """By activation and seed, what its runs scored after their last epoch.

    A run that diverged counts as guessing where that is known, of classes, and else with the worst score of any run, before
    or after training.

    Raises:
        UndyingError: no run has a finite one.
    """
    key = f"{part}_{metric.name}"
    every = [run for of in runs.values() for run in of]
    if metric == ACCURACY:
        worst = 1 / data["classes"]
    else:
        known = [v for run in every for line in (run.epochs[0], run.epochs[-1]) if (v := line.get(key)) is not None]
        if not known:
            raise UndyingError(
                f"no run has a finite {metric.title} before or after training, so there is no comparison"
            )
        worst = min(known) if metric.higher_is_better else max(known)
    return {
        name: {run.config.seed: worst if run.epochs[-1].get(key) is None else run.epochs[-1][key] for run in of}
        for name, of in runs.items()
    }


def _share(run: Run, state: str) -> float | None:
    return share(last_counted(run.epochs), state)


def _known(values: Mapping[int, float | None]) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if value is not None}


def _summary(values: Sequence[float | None]) -> Summary | None:
    known = [value for value in values if value is not None]
    return summarise(known) if len(known) == len(values) else None


def _lines(runs: Sequence[Run], metrics: Iterable[str], recycles: bool) -> list[str]:
    """What there is a curve of."""
    known = {line for run in runs for epoch in run.epochs for line in epoch}
    scores = [f"test_{metric}" for metric in metrics]
    return [line for line in _CURVES if line != "train_accuracy" or line in known] + scores + ["recycled"] * recycles


def _curve(runs: Sequence[Run], metric: str) -> Curve:
    return curve([[epoch.get(metric) for epoch in run.epochs] for run in runs])


def _sites(runs: Sequence[Run]) -> list[SiteHistory]:
    """Mean share of each site's units by epoch, over the runs that still counted then; None where it is unknown."""
    counted = [[{site["name"]: site for site in epoch.get("sites", ())} for epoch in run.epochs] for run in runs]
    first = next((run[0] for run in counted if run[0]), {})
    epochs = [[run[e] for run in counted if e < len(run)] for e in range(max(map(len, counted)))]
    return [
        SiteHistory(
            name,
            site["units"],
            **{
                state: [_mean([sites[name][state] for sites in at if name in sites], site["units"]) for at in epochs]
                for state in ("silent", "dead", "dormant")
            },
        )
        for name, site in first.items()
    ]


def _mean(counts: Sequence[int | None], units: int) -> float | None:
    known = [count / units for count in counts if count is not None]
    return sum(known) / len(known) if known else None
