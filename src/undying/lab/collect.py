"""From the store to results: read every run of a comparison and do the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from undying._version import __version__
from undying.errors import UndyingError
from undying.lab import data
from undying.lab.activations import build_activation
from undying.lab.results import ActivationResult, Comparison, Curve, Results, SiteHistory
from undying.lab.settings import Settings
from undying.lab.statistics import compare_to_baseline, curve, summarise
from undying.lab.store import Run, Store
from undying.lab.training import PROBE

_CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "sparsity", "gradient_norm", "update_norm")


def collect(store: Store, settings: Settings) -> Results:
    """The results of a comparison whose every run is finished.

    Raises:
        UndyingError: runs are missing, or cannot be read.
    """
    described, model_sha256 = store.described()
    # A folder of an early version; those knew no data that could be elsewhere by now.
    described = described or data.load(settings.data).describe()
    configs = settings.runs(described["sha256"], model_sha256)
    command = settings.command(str(store.out))
    missing = sum(not store.finished(config) for config in configs)
    if missing:
        raise UndyingError(f"{missing} of {len(configs)} runs in {store.out} are not finished; go on with: {command}")
    runs: dict[str, list[Run]] = {name: [] for name in settings.activations}
    for config in configs:
        runs[config.activation].append(store.read(config))

    chance = 1 / described["classes"]
    accuracy = {name: [_accuracy(run, chance) for run in of] for name, of in runs.items()}
    silent = {name: [_share(run, "silent") for run in of] for name, of in runs.items()}
    versus = {
        metric: _versus_baseline(metric, values) for metric, values in (("accuracy", accuracy), ("silent", silent))
    }
    return Results(
        undying=__version__,
        command=command,
        settings=asdict(settings),
        data=described,
        probe=min(PROBE, _trained_on(described, settings)),
        environment=runs[settings.activations[0]][0].environment,
        activations=[
            _activation(
                name, runs[name], accuracy[name], silent[name], {m: v[name] for m, v in versus.items() if name in v}
            )
            for name in settings.activations
        ],
    )


def _trained_on(described: dict[str, Any], settings: Settings) -> int:
    """Training samples that are left after the subset and the validation split."""
    number: int = settings.subset or described["train"]
    return number - round(settings.validation * number)


def _activation(
    name: str,
    runs: Sequence[Run],
    accuracy: Sequence[float],
    silent: Sequence[float],
    comparisons: dict[str, Comparison],
) -> ActivationResult:
    diverged = sum(run.status == "diverged" for run in runs)
    return ActivationResult(
        name=name,
        module=repr(build_activation(name)),
        diverged=diverged,
        accuracy=summarise(accuracy),
        test_loss=None if diverged else summarise([run.epochs[-1]["test_loss"] for run in runs]),
        silent=summarise(silent),
        dead=summarise([_share(run, "dead") for run in runs]),
        dormant=summarise([_share(run, "dormant") for run in runs]),
        sparsity=summarise([_last_counted(run)["sparsity"] for run in runs]),
        seconds=summarise([run.seconds for run in runs]),
        comparisons=comparisons,
        curves={metric: _curve(runs, metric) for metric in _CURVES},
        sites=_sites(runs),
    )


def _versus_baseline(metric: str, values: dict[str, list[float]]) -> dict[str, Comparison]:
    baseline, *others = values
    return compare_to_baseline(metric, values[baseline], {name: values[name] for name in others}, baseline=baseline)


def _accuracy(run: Run, chance: float) -> float:
    """A diverged network no longer tells classes apart: it counts as guessing."""
    return chance if run.status == "diverged" else float(run.epochs[-1]["test_accuracy"])


def _last_counted(run: Run) -> dict[str, Any]:
    """The last epoch at which the units could be counted, epoch 0 at the earliest."""
    return next(epoch for epoch in reversed(run.epochs) if "sites" in epoch)


def _share(run: Run, state: str) -> float:
    sites = _last_counted(run)["sites"]
    share: float = sum(site[state] for site in sites) / sum(site["units"] for site in sites)
    return share


def _curve(runs: Sequence[Run], metric: str) -> Curve:
    return curve([[epoch.get(metric) for epoch in run.epochs] for run in runs])


def _sites(runs: Sequence[Run]) -> list[SiteHistory]:
    """Mean share of each site's units by epoch, over the runs that still counted then."""
    histories = []
    for i, site in enumerate(runs[0].epochs[0]["sites"]):
        shares = {
            state: [
                _mean([run.epochs[e]["sites"][i][state] / site["units"] for run in runs if _counted(run, e)])
                for e in range(max(len(run.epochs) for run in runs))
            ]
            for state in ("silent", "dead", "dormant")
        }
        histories.append(SiteHistory(site["name"], site["units"], **shares))
    return histories


def _counted(run: Run, epoch: int) -> bool:
    return epoch < len(run.epochs) and "sites" in run.epochs[epoch]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
