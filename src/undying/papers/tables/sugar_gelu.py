"""SUGAR in networks that were designed with GELU: Conv2NeXt and Swin."""

from __future__ import annotations

from dataclasses import replace

from undying.lab.recipe import Recipe
from undying.papers.table import Claim, Gain, Published, Scale, Stage, Table, Task, times
from undying.papers.tables.sugar_cifar import CONTROLS, NEGATIVE, SOURCE, UNIT

LARGE_NELU, SMALL_NELU = "sugar:nelu:a=0.1", "sugar:nelu:a=0.01"
MAIN = ("gelu", "relu", "sugar", LARGE_NELU, "sugar:nelu:a=0.05", SMALL_NELU)

PUBLISHED = Recipe(
    validation=0.1,
    augment=("flip", "crop", "randaugment"),
    weight_decay=0.05,
    schedule="cosine",
    warmup=20,
    label_smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    drop_path=0.1,
    ema=0.9999,
)
"""That of Conv2NeXt's own paper (CAIT 2022)."""
SHORT = Recipe(subset=5_000, validation=0.1, measure_every=5, weight_decay=0.05, schedule="cosine", warmup=1)


def _full(name: str, model: str, lr: float, nelu: str) -> Task:
    """With a grid of rates for the NeLU that the source reports of this network."""
    return Task(
        name=name,
        data="cifar100",
        model=model,
        stages=(
            Stage(MAIN, (lr,)),
            Stage((NEGATIVE, UNIT), (lr,)),
            Stage(("gelu", "relu", "sugar", nelu), times(lr, 3, 0.3, 10)),
            Stage((NEGATIVE, UNIT), times(lr, 3, 0.3, 10)),
        ),
        seeds=(0, 1, 2, 3, 4),
        epochs=300,
        lr=lr,
        optimizer="adamw",
        batch_size=256,
        recipe=PUBLISHED,
    )


def _small(full: Task, model: str, lr: float, nelu: str, main: tuple[str, ...]) -> Task:
    return replace(
        full,
        data="cifar10",
        model=model,
        stages=(Stage(main, (lr,)), Stage(("gelu", "relu", nelu), times(lr, 3, 0.3))),
        epochs=5,
        lr=lr,
        batch_size=128,
        recipe=SHORT,
    )


def _smoke(small: Task, network: str, nelu: str) -> Task:
    return replace(
        small,
        data="digits",
        model=f"undying.papers.networks:{network}",
        stages=(Stage(("gelu", "relu", "sugar", nelu), (small.lr,)), Stage(("gelu", "relu"), times(small.lr, 3))),
        seeds=(0, 1),
        epochs=1,
        recipe=replace(SHORT, subset=100, warmup=0.0),
    )


def _scales(full: Task, small: Task, smoke: Task, *limits: str) -> dict[str, Scale]:
    """``limits`` are what the small one cannot answer beside what it says of every network."""
    return {
        "full": Scale(
            (full,),
            (
                "Whether its numbers equal the published ones to the last point: a tenth of the training data is held out, "
                "and how strong the recipe's RandAugment is, is not known; it is torchvision's, two operations of magnitude 9.",
            ),
        ),
        "small": Scale(
            (small,),
            (
                f"Where the published recipe ends: it trains {small.model}, CIFAR-10, 5,000 images, 5 epochs, batch 128, "
                "without augmentation, mixing, smoothing, drop path and averaging.",
                "A difference of a few tenths of a point, as published: 5 seeds do not resolve it.",
                "SUGAR with B-SiLU at a rate of its own, and the controls for the cause, which are not run.",
                *limits,
            ),
        ),
        "smoke": Scale(
            (smoke,),
            (
                "Anything: it trains a few narrow blocks on 90 of scikit-learn's digits for one epoch, to see that the "
                "table runs.",
            ),
            answers=False,
        ),
    }


_OURS = (
    "every GELU of the network is replaced",
    "5 seeds; B-SiLU's a = 1.67",
    "a tenth of the training data held out in every run, on which each arm's own best rate is chosen",
    "the grid of rates: 0.3, 1, 3 and 10 times the recipe's (at small scale 0.3, 1 and 3)",
    "NeLU beside ReLU, ReLU beside GELU, and both claims about GELU with each at its own best rate, for which NeLU has the "
    "grid at small scale in the place of B-SiLU: added after the first arms there had been seen",
)


def _conv2next() -> Table:
    full = _full("conv2next", "conv2next_base", 0.004, LARGE_NELU)
    small = _small(full, "conv2next_narrow", 0.002, LARGE_NELU, MAIN[:4])
    return Table(
        name="sugar-conv2next",
        says="Conv2NeXt: SUGAR with NeLU (a = 0.1) 83.95 %, GELU 83.74 %",
        source=SOURCE,
        scales=_scales(
            full,
            small,
            _smoke(small, "tiny_conv2next", LARGE_NELU),
            "NeLU with a = 0.05 and 0.01, which sugar-swin has. They are left out, and no run of them was seen before that was "
            "decided, because of the time that they would take.",
        ),
        given=("network Conv2NeXt; GELU, and SUGAR with NeLU (a = 0.1)",),
        chosen=(
            "CIFAR-100, since 83.95 % would be low for CIFAR-10 with such a recipe; the size base",
            "the recipe, that of Conv2NeXt's own paper: batch 256, AdamW at 0.004, weight decay 0.05, 300 epochs, 20 of them "
            "warm-up, cosine, RandAugment, flips and shifts, mixup 0.8, cutmix 1.0, label smoothing 0.1, drop path 0.1, averaging "
            "(decay 0.9999)",
            *_OURS,
        ),
        published=(Published("conv2next", "gelu", 0.8374), Published("conv2next", LARGE_NELU, 0.8395)),
        claims=(
            Claim("SUGAR (NeLU, a = 0.1) is competitive with GELU", "conv2next", LARGE_NELU, "gelu", "not worse"),
            Claim("SUGAR (NeLU, a = 0.1) is slightly superior to GELU", "conv2next", LARGE_NELU, "gelu"),
            Claim("The same, each at its own best rate", "conv2next", LARGE_NELU, "gelu", own_rates=True),
            *_ours("conv2next", "NeLU, a = 0.1", LARGE_NELU),
        ),
        gains=_gains("conv2next", LARGE_NELU),
    )


def _swin() -> Table:
    full = _full("swin", "swin_t", 0.0005, SMALL_NELU)
    small = _small(full, "swin_narrow", 0.0005, SMALL_NELU, MAIN)
    return Table(
        name="sugar-swin",
        says="Swin: SUGAR with NeLU (a = 0.01) above the GELU baseline (no number)",
        source=SOURCE,
        scales=_scales(full, small, _smoke(small, "tiny_swin", SMALL_NELU)),
        given=("network Swin; GELU, and SUGAR with NeLU (a = 0.01)",),
        chosen=(
            "CIFAR-100; Swin-T with patches of 2 and windows of 4",
            "the recipe, that of sugar-conv2next at a rate of 0.0005",
            *_OURS,
        ),
        published=(),
        claims=(
            Claim(
                "SUGAR (NeLU, a = 0.01) is above the GELU baseline",
                "swin",
                SMALL_NELU,
                "gelu",
                published="above 0, no number",
            ),
            Claim("The same, each at its own best rate", "swin", SMALL_NELU, "gelu", own_rates=True),
            Claim("SUGAR (NeLU, a = 0.01) is competitive with GELU", "swin", SMALL_NELU, "gelu", "not worse"),
            *_ours("swin", "NeLU, a = 0.01", SMALL_NELU),
        ),
        gains=_gains("swin", SMALL_NELU),
    )


def _ours(task: str, kind: str, nelu: str) -> tuple[Claim, ...]:
    """Of B-SiLU, and whether it takes SUGAR: where ReLU itself is above GELU, it does not."""
    return (
        Claim("SUGAR (B-SiLU) is competitive with GELU", task, "sugar", "gelu", "not worse"),
        Claim("The same, each at its own best rate", task, "sugar", "gelu", "not worse", own_rates=True),
        Claim("SUGAR (B-SiLU) is more accurate than ReLU (ours)", task, "sugar", "relu"),
        Claim(f"SUGAR ({kind}) is more accurate than ReLU (ours)", task, nelu, "relu"),
        Claim("ReLU is more accurate than GELU (ours)", task, "relu", "gelu"),
        Claim("The same, each at its own best rate", task, "relu", "gelu", own_rates=True),
    )


def _gains(task: str, nelu: str) -> tuple[Gain, ...]:
    return (
        *(Gain(task, "sugar", against, CONTROLS) for against in ("relu", "gelu")),
        *(Gain(task, nelu, against) for against in ("relu", "gelu")),
    )


TABLES = (_conv2next(), _swin())
