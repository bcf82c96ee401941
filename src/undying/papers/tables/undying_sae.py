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
WIDE_ARMS = ("relu", "sugar")
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
)
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


def _task(template: SaeRun, arms: tuple[str, ...], seeds: int, seconds: float) -> KindTask[SaeRun]:
    task = kind_task(
        f"latents-{template.latents}" if template.data != GENERATED else "latents-3072",
        template,
        stages=(Stage(arms, (template.lr,)),),
        seeds=range(seeds),
        metrics=METRICS,
        curves=(),
        over="",
        seconds=seconds,
    )
    return _SaeTask(**vars(task))


_NAMES = {
    "sugar": "SUGAR",
    "sugar:nelu": "SUGAR with NeLU",
    "sugar:anneal=0.5": "SUGAR annealed to ReLU",
    "relu+resample": "ReLU with resampling",
    "relu+ghost": "ReLU with ghost gradients",
    "topk+auxk": "TopK with its auxiliary loss",
}


def _claims(task: str, arms: Sequence[str]) -> Iterator[Claim]:
    """Of those whose arms are all there."""
    text = "ReLU on centred inputs leaves fewer latents dead than on raw ones"
    said = [
        claim
        for arm, name in _NAMES.items()
        for claim in (
            Claim(f"{name} leaves fewer latents dead than ReLU", task, arm, "relu", "lower", "dead"),
            Claim(f"{name} explains more variance than ReLU", task, arm, "relu"),
        )
    ]
    said += [
        Claim("SUGAR explains more variance than ReLU with resampling", task, "sugar", "relu+resample"),
        Claim("The auxiliary loss leaves fewer latents of TopK dead", task, "topk+auxk", "topk", "lower", "dead"),
        Claim(text, task, "relu", "relu+raw", "lower", "dead"),
        Claim("ReLU on centred inputs explains more variance than on raw ones", task, "relu", "relu+raw"),
    ]
    return (claim for claim in said if {claim.arm, claim.against} <= {*arms})


_LIMITS = (
    "Whether it is so after long training: an autoencoder sees 38,400 tokens, where published ones see billions, and latents that die of "
    "themselves do so later. Most that are dead here were planted.",
    "Whether it is so of a language model's residual stream, or of more data: the rows are tokens of one Debian manual, as a "
    "sentence encoder of 384 numbers gives them.",
    "What each arm is worth at settings that suit it best: of each, the settings below are the only ones, and all have one learning rate.",
)

TABLE = Table(
    name="undying-sae",
    says="sparse autoencoders: which latents are dead at the end, and how much variance is explained, at equal L0",
    source="no publication",
    scales={
        "full": Scale(
            (_task(FULL, ARMS, 5, 1500.0), _task(replace(FULL, latents=6144), ARMS, 5, 3000.0)),
            _LIMITS[1:],
        ),
        "small": Scale((_task(SMALL, ARMS, 5, 45.0), _task(replace(SMALL, latents=6144), WIDE_ARMS, 5, 90.0)), _LIMITS),
        "smoke": Scale(
            (_task(SMOKE, ARMS, 2, 1.0),),
            ("Anything: it trains small autoencoders on generated rows for 40 steps, to see that the table runs.",),
            answers=False,
        ),
    },
    given=(),
    chosen=(
        "data: what the sentence encoder all-MiniLM-L6-v2 gives for each token of the Debian Reference (docs/reproduce.md says how the file "
        "is made); the last sixteenth is the test. Columns are centred by the training data's mean, but for `relu+raw`, and divided by "
        "one number, so that their variance is 1 on average",
        "autoencoders: a linear encoder that begins as torch's layer does, the latents, and a linear decoder whose columns have length 1 "
        "from the start and after each step. The loss is the mean squared error, and with L1 the penalty times the mean over the samples "
        "of the sum of the latents; TopK has no penalty, and keeps the k largest where they are above 0",
        "Adam, batches of 64; over the last fifth of the steps the learning rate falls to 0. It is the same for all arms, 0.002, and no arm "
        "has one of its own: time did not allow it",
        "planted: the first quarter of the latents begins dead, with a bias 1.5 times as far below 0 as their largest pre-activation on 2,048 "
        "training samples is above it. Without it too few die in so few steps to compare: on a seed that is none of the table's, 99, none of "
        "3,072 ReLU latents was dead after 600 steps at learning rates of 0.001, 0.003, 0.01 and 0.03",
        "learning rate, penalties and L0 were chosen on seed 99: at 0.002 ReLU explained more than at 0.001, and from 0.01 on TopK with its "
        "auxiliary loss next to nothing; the penalties are such that ReLU and SUGAR come to L0 = 64 between them. `relu+raw`, which was not tried there, came to no more than 63, so that arms are compared at 48 instead, which lies between the autoencoders of every arm",
        "a run trains one autoencoder for each penalty, or k, from the same first weights with the same samples in the same order. What is "
        "told at L0 = 48, test latents above 0 a sample, lies on a line over log L0 between the two of the run that are nearest on either side",
        "dead: a latent that is above 0 for no test sample and for none of the last `window` training samples; silent: for no test sample",
        "`sugar`: B-SiLU; `sugar:anneal=0.5`: its strength goes to 0 over the last half of the steps, so that it ends as ReLU",
        "`relu+resample`: `undying.DeadLatents` with the same window, towards samples among 2,048 of training",
        "`relu+ghost`: ghost gradients (Jermyn and Templeton, Transformer Circuits, January 2024) for latents that fired for none of the last "
        "`window` samples; `topk+auxk`: the auxiliary loss of Gao et al. 2024 (arXiv:2406.04093) for the same latents, the 256 largest of them, "
        "with weight 1/32",
    ),
    published=(),
    claims=(*_claims("latents-3072", ARMS), *_claims("latents-6144", WIDE_ARMS)),
    gains=(),
    shows="sparsity",
    score="explained variance",
    diverged="an explained variance of 0",
    points="A point of explained variance is 1 % of the variance of the test data.",
)
