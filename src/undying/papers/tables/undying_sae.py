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
"""Of 6,144 latents at small scale, whose runs take twice as long."""
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
    SMALL, data=GENERATED, latents=64, epochs=2, steps=40, penalties=("1", "0.01"), keeps=("8", "24"), window=640, l0=20
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


def _task(template: SaeRun, seeds: int, seconds: float, arms: tuple[str, ...] = ARMS) -> KindTask[SaeRun]:
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


def _claims(task: str, arms: tuple[str, ...]) -> Iterator[Claim]:
    for arm, name in _NAMES.items():
        if arm in arms:
            yield Claim(f"{name} leaves fewer latents dead than ReLU", task, arm, "relu", "lower", "dead")
            yield Claim(f"{name} explains more variance than ReLU", task, arm, "relu")
    if arms != ARMS:
        return
    yield Claim("SUGAR explains more variance than ReLU with resampling", task, "sugar", "relu+resample")
    yield Claim("The auxiliary loss leaves fewer latents of TopK dead", task, "topk+auxk", "topk", "lower", "dead")
    text = "ReLU on centred inputs leaves fewer latents dead than on raw ones"
    yield Claim(text, task, "relu", "relu+raw", "lower", "dead")
    yield Claim("ReLU on centred inputs explains more variance than on raw ones", task, "relu", "relu+raw")


_LIMITS = (
    "Whether it is so after long training: an autoencoder sees 38,400 tokens, where published ones see billions, and latents that die of "
    "themselves do so later. Most that are dead here were planted.",
    "Whether it is so of a language model's residual stream, or of more data: the rows are tokens of one Debian manual, as a "
    "sentence encoder of 384 numbers gives them.",
    "What each arm is worth at settings that suit it best: of each, the settings below are the only ones, and all have one learning rate.",
    "Whether a difference at equal L0 is one of the dead latents: arms come to it at other penalties, and a penalty also makes the latents "
    "that fire smaller.",
)

TABLE = Table(
    name="undying-sae",
    says="sparse autoencoders: which latents are dead at the end, and how much variance is explained, at equal L0",
    source="no publication",
    scales={
        "full": Scale(
            (_task(FULL, 5, 1500.0), _task(replace(FULL, latents=6144), 5, 3000.0)),
            _LIMITS[1:],
        ),
        "small": Scale(
            (_task(SMALL, 5, 45.0), _task(replace(SMALL, latents=6144, l0=64), 5, 90.0, WIDE_ARMS)), _LIMITS
        ),
        "smoke": Scale(
            (_task(SMOKE, 2, 1.0),),
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
        "training samples is above it. Without it too few die in 600 steps to compare: in trials on seed 99, which is none of the table's, "
        "none of 3,072 ReLU latents was dead then at learning rates of 0.003, 0.01 and 0.03",
        "learning rate and penalties were chosen on seed 99. At equal L0 ReLU explained more at 0.002 than at 0.001; at 0.01 TopK with its "
        "auxiliary loss explained 13 %",
        "L0 = 48 lies between the autoencoders of every arm. It was 64 at first; `relu+raw`, which was not tried on seed 99, came to no "
        "more than 63, and so it was changed when the first runs were in",
        "a run trains one autoencoder for each penalty, or k, from the same first weights with the same samples in the same order. What is "
        "told at L0 = 48, test latents above 0 a sample, lies on a line over log L0 between the two of the run that are nearest on either side",
        "of 6,144 latents ReLU and SUGAR alone at small scale, because of the time that others would take. They are compared at L0 = 64: at "
        "48 one run of each had no number, as even its sparsest autoencoder has more. That was chosen when their L0 was known",
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
