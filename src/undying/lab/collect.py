"""From the finished runs of a comparison to its results: the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from undying._base.errors import UndyingError
from undying._version import __version__
from undying.lab.finished import check_alike
from undying.lab.grid import parse
from undying.lab.pairs import pairs_of, scores_of
from undying.lab.plan import Plan, stored
from undying.lab.results import ActivationResult, Results, SiteHistory
from undying.lab.runs.classification import PROBE
from undying.lab.runs.kind import Run
from undying.lab.runs.lines import last_counted, share
from undying.lab.settings import Settings
from undying.lab.store import Store
from undying.lab.tasks import RL
from undying.lab.treatments import build_treatment
from undying.lab.tuning import tune
from undying.statistics.aggregates import interquartile_mean, probability_of_improvement
from undying.statistics.interval import Interval
from undying.statistics.metric import SILENT
from undying.statistics.paired import compare_metrics, compare_pairs
from undying.statistics.records import Comparison, Curve, Summary
from undying.statistics.summaries import curve, summarise

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
    tried = _by_activation(plan)
    baseline, *others = settings.activations
    if baseline not in tried:
        raise UndyingError(
            f"no run of the baseline {baseline} in {out} is finished ({len(plan.finished)} of {len(plan.runs)} runs are), "
            f"so there is nothing to compare with; 'undying runs {out}' lists them, resume with: {command}"
        )

    margin = plan.metrics[0].margin_of(settings.margin)
    tuning = tune(tried, parse(settings.grid), plan.metrics, plan.data, margin) if settings.grid else None
    runs = {
        name: arm[0 if tuning is None else settings.points.index(tuning.arms[name].chosen)]
        for name, arm in tried.items()
    }
    scores = {metric: scores_of(metric, runs, plan.data) for metric in plan.metrics}
    silent = {name: _known({run.config.seed: _share(run, "silent") for run in of}) for name, of in runs.items()}
    margins = [margin, *[None] * (len(scores) - 1)]
    judged = compare_metrics(
        [(metric, pairs_of(values), m) for (metric, values), m in zip(scores.items(), margins, strict=True)],
        baseline=baseline,
    )
    versus = {metric.name: found for metric, found in zip(scores, judged, strict=True)}
    versus["silent"] = compare_pairs(SILENT, pairs_of(silent), baseline=baseline)
    return Results(
        undying=__version__,
        command=command,
        settings={**asdict(settings), "lr": settings.learning_rate},
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
                _aggregates(scores[plan.metrics[0]], name) if settings.task == RL else {},
            )
            for name in (baseline, *others)
            if name in runs
        ],
        planned=len(plan.runs),
        tuning=tuning,
    )


def _by_activation(plan: Plan) -> dict[str, list[list[Run]]]:
    """The finished runs at each point of the grid, by seed, of each activation that has a seed at all of them; the baseline
    comes first."""
    runs: dict[str, list[list[Run]]] = {}
    for name in plan.settings.activations:
        own = [config for config in plan.runs if config.activation == name and config in plan.finished]
        arm = [
            [plan.finished[config] for config in own if all(getattr(config, key) == at[key] for key in at)]
            for at in plan.settings.points
        ]
        if set.intersection(*({run.config.seed for run in of} for of in arm)):
            runs[name] = arm
    return runs


def _trained_on(plan: Plan) -> int:
    """Training samples that are left after the subset and the validation split."""
    number: int = plan.settings.subset or plan.data["train"]
    return number - round(plan.settings.validation * number)


def _activation(
    name: str,
    runs: Sequence[Run],
    scores: Mapping[str, Sequence[float]],
    comparisons: dict[str, Comparison],
    aggregates: dict[str, Interval],
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
        aggregates=aggregates,
        diverged_seeds=[run.config.seed for run in runs if run.status == "diverged"],
        validation={name: [run.epochs[-1].get(name) for run in runs] for name in _held_out(runs)},
        together=_together(runs),
        refused={site: reason for run in runs for site, reason in run.epochs[-1].get("refused", {}).items()},
    )


def _together(runs: Sequence[Run]) -> bool | None:
    found = {"together" in line for run in runs for line in run.epochs}
    return found.pop() if len(found) == 1 else None


def _aggregates(scores: Mapping[str, Mapping[int, float]], name: str) -> dict[str, Interval]:
    """What Agarwal et al. (2021) advise for few runs of agents."""
    own, baseline = list(scores[name].values()), next(iter(scores))
    found = {"iqm": interquartile_mean([own])}
    if name != baseline:
        found["improvement"] = probability_of_improvement([own], [list(scores[baseline].values())])
    return found


def _held_out(runs: Sequence[Run]) -> list[str]:
    """What was measured on the share of the training data that is held out."""
    return list(dict.fromkeys(name for run in runs for name in run.epochs[-1] if name.startswith("validation_")))


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
    """Over epochs; of agents over steps of the environment, as the longest run counted them."""
    found = curve([[epoch.get(metric) for epoch in run.epochs] for run in runs])
    longest = max(runs, key=lambda run: len(run.epochs)).epochs
    return replace(found, steps=[line["steps"] for line in longest]) if "steps" in longest[0] else found


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
