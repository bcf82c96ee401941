"""Our own table: sparse autoencoders on the activations of a sentence encoder, and their dead latents, at equal L0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undying.lab.data.activations import GENERATED, activations
from undying.lab.data.dataset import Dataset
from undying.lab.runs.sae import SaeRun
from undying.lab.settings import AnyRun
from undying.papers.kinds import KindTask, kind_task
from undying.papers.table import Claim, Metric, Scale, Stage, Table

ARMS = (
    "relu",
    "sugar",
    "sugar:nelu",
    "sugar:anneal=0.5",
    "relu+resample",
    "relu+ghost",
    "topk",
    "topk+auxk",
    "relu+raw",
)
WIDE_ARMS = ("relu", "sugar", "relu+resample", "topk+auxk")
METRICS = (
    Metric("accuracy", "explained variance"),
    Metric("dead", "dead"),
    Metric("silent", "silent on the test data"),
)

SMALL = SaeRun(
    data="minilm-tokens",
    activation="relu",
    seed=0,
    epochs=3,
    lr=0.002,
    batch_size=64,
    latents=3072,
    steps=600,
    penalties=("0.02", "0.01", "0.005"),
    keeps=("32", "64", "128"),
    planted=0.25,
    window=9_600,
    l0=64,
)
WIDE = replace(SMALL, latents=6144, epochs=2, penalties=("0.02", "0.005"), keeps=("32", "128"))
FULL = replace(SMALL, steps=20_000, window=320_000)
SMOKE = replace(
    SMALL, data=GENERATED, latents=64, epochs=2, steps=40, penalties=("0.1", "0.01"), keeps=("2", "8"), window=640, l0=4
)


@dataclass(frozen=True, kw_only=True)
class _SaeTask(KindTask[SaeRun]):
    """Its data are a file, whose hash is in every run."""

    def load(self, data_root: Path | None) -> Dataset | None:
        return activations(self.data, data_root)

    def config(self, arm: str, rate: float, seed: int, data_sha256: str) -> AnyRun:
        return replace(self.template, activation=arm, lr=rate, seed=seed, data_sha256=data_sha256)

    def settings(self, described: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, str]:
        said = super().settings(described, seeds)
        said.pop("data sha256")
        said["data"] = (
            f"{described['name']}, {described['train']:,} rows to train on, {described['test']:,} to test, hash {described['sha256'][:12]}"
        )
        return {**said, "penalties": ", ".join(self.template.penalties), "keeps": ", ".join(self.template.keeps)}


def _task(template: SaeRun, arms: Sequence[str], seeds: int, seconds: float) -> KindTask[SaeRun]:
    task = kind_task(
        f"latents-{template.latents}" if template.data != GENERATED else "latents-3072",
        template,
        stages=(Stage(tuple(arms), (template.lr,)),),
        seeds=range(seeds),
        metrics=METRICS,
        curves=(),
        over="",
        seconds=seconds,
    )
    return _SaeTask(**vars(task))


def _claims(task: str) -> Iterator[Claim]:
    for arm, name in (
        ("sugar", "SUGAR"),
        ("sugar:nelu", "SUGAR with NeLU"),
        ("sugar:anneal=0.5", "SUGAR annealed to ReLU"),
        ("relu+resample", "ReLU with resampling"),
        ("relu+ghost", "ReLU with ghost gradients"),
        ("topk+auxk", "TopK with its auxiliary loss"),
    ):
        yield Claim(f"{name} leaves fewer latents dead than ReLU", task, arm, "relu", "lower", "dead")
        yield Claim(f"{name} explains more variance than ReLU", task, arm, "relu")
    yield Claim(
        "ReLU on centred inputs leaves fewer latents dead than on raw ones", task, "relu", "relu+raw", "lower", "dead"
    )
    yield Claim("ReLU on centred inputs explains more variance than on raw ones", task, "relu", "relu+raw")


_LIMITS = (
    "Whether it is so of a language model's residual stream, or of more data: the rows are tokens of one Debian manual, as a "
    "sentence encoder of 384 numbers gives them.",
    "What each arm is worth at settings that suit it best: of each, the settings below are the only ones, and all have one learning rate.",
)

TABLE = Table(
    name="undying-sae",
    says="sparse autoencoders: which latents are dead at the end, and how much variance is explained, at equal L0",
    source="no publication",
    scales={
        "full": Scale((_task(FULL, ARMS, 5, 1800.0), _task(replace(FULL, latents=6144), ARMS, 5, 3600.0)), _LIMITS),
        "small": Scale((_task(SMALL, ARMS, 5, 45.0), _task(WIDE, WIDE_ARMS, 5, 60.0)), _LIMITS),
        "smoke": Scale(
            (_task(SMOKE, ARMS, 2, 1.0),),
            ("Anything: it trains small autoencoders on generated rows for 40 steps, to see that the table runs.",),
            answers=False,
        ),
    },
    given=(),
    chosen=("TODO",),
    published=(),
    claims=tuple(_claims("latents-3072")),
    gains=(),
    shows="sparsity",
    score="explained variance",
    diverged="an explained variance of 0",
    points="A point of explained variance is 1 % of the variance of the test data.",
)
