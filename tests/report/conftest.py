"""A finished comparison made by hand: seeded numbers that look like a sweep on digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from undying.lab.results import ActivationResult, Results, SiteHistory
from undying.report.drawing import Figure
from undying.report.figures import draw
from undying.statistics.metric import ACCURACY
from undying.statistics.records import Comparison, Curve, Summary

NAMES = ("relu", "leaky_relu", "barelu", "sugar:bsilu", "sugar:nelu", "silu")
LEVELS = {  # final accuracy and silent share, about as measured on digits
    "relu": (0.966, 0.25),
    "leaky_relu": (0.967, 0.14),
    "barelu": (0.967, 0.14),
    "sugar:bsilu": (0.975, 0.15),
    "sugar:nelu": (0.966, 0.2),
    "silu": (0.958, 0.03),
}


def _summary(values: np.ndarray) -> Summary:
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / len(values) ** 0.5
    interval = (None, None) if len(values) == 1 else (mean - half, min(mean + half, 1.0 if mean < 1 else mean + half))
    return Summary([float(value) for value in values], mean, *interval, float(np.median(values)))


def _comparison(name: str, baseline: str, metric: str, own: np.ndarray, base: np.ndarray) -> Comparison:
    difference = own - base
    mean, deviation, n = float(difference.mean()), float(difference.std()), len(own)
    half = 1.96 * deviation / n**0.5
    verdict = "cannot tell" if n < 6 else "higher" if mean > half else "lower" if mean < -half else "none"
    what = {"accuracy": "test accuracy", "silent": "share of silent units"}[metric]
    p = {"higher": 0.0039, "lower": 0.0004, "none": 0.4, "cannot tell": 1.0}[verdict]
    by = f"{what} is {verdict} than {baseline}'s by {100 * abs(mean):.1f} points, p = {p:g} after Holm's correction ({n} seeds)"
    sentence = {
        "none": f"{name}: no difference detected with {n} seeds between its {what} and {baseline}'s, p = {p:g}",
        "cannot tell": f"{name}: cannot tell with {n} seeds: {what} differs from {baseline}'s by {100 * abs(mean):.1f} points",
    }.get(verdict, f"{name}: {by}")
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    low, high = (None, None) if n == 1 else (mean - half, mean + half)
    effect = mean / deviation if deviation else None
    return Comparison(mean, low, high, p / 3, p, effect, wins, n - wins - losses, losses, verdict, sentence)


def _curve(rng: np.random.Generator, values: np.ndarray) -> Curve:
    spread = np.abs(values) * rng.uniform(0.01, 0.04, len(values))
    return Curve(*([float(v) for v in side] for side in (values, values - spread, values + spread)))


def _activation(
    rng: np.random.Generator,
    name: str,
    seeds: int,
    epochs: int,
    sites: Sequence[str],
    base: tuple[np.ndarray, np.ndarray] | None,
    baseline: str,
) -> tuple[ActivationResult, tuple[np.ndarray, np.ndarray]]:
    level, quiet = LEVELS.get(name, (0.96, 0.1))
    accuracy = level + rng.normal(0, 0.003, seeds)
    silent = np.clip(quiet + rng.normal(0, 0.02, seeds), 0, 1)
    diverges = name == "sugar:nelu" and seeds > 1
    if diverges:
        accuracy[seeds // 2] = 0.1
    dies = name == "relu"
    time = np.arange(epochs + 1)  # epoch 0 is before training
    pace = rng.uniform(0.8, 1.3)
    rise = 1 - 0.9 * np.exp(-time / (1.5 * pace))
    curves = {
        "train_loss": _curve(rng, 2.3 * np.exp(-time / (2.5 * pace)) + rng.uniform(0.01, 0.03)),
        "test_loss": _curve(rng, 2.3 * np.exp(-time / (2.5 * pace)) + 0.15),
        "train_accuracy": _curve(rng, rise),
        "test_accuracy": _curve(rng, level * rise * rng.uniform(0.99, 1)),
        "sparsity": _curve(
            rng,
            (0.5 + 0.15 * rise * rng.uniform(0.5, 1.5))
            if name.startswith(("relu", "sugar"))
            else np.full(epochs + 1, 0.001),
        ),
        "gradient_norm": _curve(rng, 1.5 * np.exp(-time / (4 * pace)) + rng.uniform(0.05, 0.1, epochs + 1)),
        "update_norm": _curve(rng, 0.4 * np.exp(-time / 6) + rng.uniform(0.02, 0.04, epochs + 1)),
    }
    for untrained in ("train_loss", "train_accuracy", "gradient_norm", "update_norm"):
        every = curves[untrained]
        curves[untrained] = Curve([None, *every.median[1:]], [None, *every.low[1:]], [None, *every.high[1:]])
    histories = []
    for depth, site in enumerate(sites):
        share = np.clip(quiet * (0.5 + depth / len(sites)) * (1 - np.exp(-np.arange(epochs + 1) / 3)) * 1.3, 0, 1)
        shares = [float(value) for value in share]
        dead: list[float | None] = list(shares) if dies else [0.0] * len(shares)
        if diverges and depth == 2:
            dead[3:5] = [None, None]  # not counted
        if diverges and depth == 1:
            dead[-1] = None  # nor ever again
        histories.append(SiteHistory(site, 128, shares, dead, [min(1.0, 1.1 * value + 0.01) for value in shares]))
    pairs = () if base is None else zip(("accuracy", "silent"), (accuracy, silent), base, strict=True)
    result = ActivationResult(
        name=name,
        module=f"{name.upper()}()",
        seeds=list(range(seeds)),
        diverged=int(diverges),
        scores={"accuracy": _summary(accuracy)},
        test_loss=None if diverges else _summary(0.15 + rng.normal(0, 0.01, seeds)),
        silent=_summary(silent),
        dead=_summary(silent if dies else 0 * silent),
        dormant=_summary(np.clip(1.1 * silent, 0, 1)),
        sparsity=_summary(0.6 + 0.1 * silent),
        seconds=_summary(rng.uniform(1.0, 1.1, seeds) * (1.0 if dies else 1.15)),
        comparisons={metric: _comparison(name, baseline, metric, own, other) for metric, own, other in pairs},
        curves=curves,
        sites=histories,
    )
    return result, (accuracy, silent)


@pytest.fixture(scope="session")
def make_results() -> Callable[..., Results]:
    """``make_results(names=..., seeds=10, epochs=15, sites=..., data="digits")``."""

    def make(
        names: Sequence[str] = NAMES,
        seeds: int = 10,
        epochs: int = 15,
        sites: Sequence[str] = tuple(f"layers.{2 * depth + 1}" for depth in range(6)),
        data: str = "digits",
    ) -> Results:
        rng = np.random.default_rng(20260101)
        activations: list[ActivationResult] = []
        base = None
        for name in names:
            activation, own = _activation(rng, name, seeds, epochs, sites, base, names[0])
            base = base or own
            activations.append(activation)
        settings: dict[str, Any] = {
            "data": data,
            "model": "mlp",
            "activations": list(names),
            "seeds": seeds,
            "epochs": epochs,
            "lr": 0.01,
            "optimizer": "adam",
            "batch_size": 64,
            "margin": 0.0,
        }
        return Results(
            undying="0.1.0",
            command=f"undying compare --data {data} --activations {' '.join(names)} --seeds {seeds} --epochs {epochs}",
            settings=settings,
            metrics=[ACCURACY],
            data={"name": data, "train": 1437, "test": 360, "classes": 10, "shape": [1, 8, 8], "sha256": "5e" * 32},
            probe=1437,
            environment={
                "python": "3.11.2",
                "torch": "2.14.1",
                "platform": "Linux-6.1-x86_64",
                "processor": "x86_64, 2 cores",
            },
            activations=activations,
            planned=len(names) * seeds,
        )

    return make


@pytest.fixture(scope="session")
def results(make_results: Callable[..., Results]) -> Results:
    """6 activations, 10 seeds, 15 epochs, 6 sites, one diverged run."""
    return make_results()


@pytest.fixture(scope="session")
def drawn(results: Results) -> list[Figure]:
    """Its figures: drawing them takes seconds."""
    return draw(results)
