"""The tables of what some pages show beside accuracies: norms, profiles, landscapes."""

from __future__ import annotations

from collections.abc import Sequence

from undying._base.text import markdown
from undying.papers.detail_data import KINDS, Detail, Landscapes, Norms, Profile
from undying.papers.page.cells import difference, points_of
from undying.papers.verdicts import estimate
from undying.report.words import MISSING


def told(detail: Detail) -> list[str]:
    """A paragraph and its table."""
    if isinstance(detail, Norms):
        return _norms(detail)
    return _profile(detail) if isinstance(detail, Profile) else _landscapes(detail)


def _norms(detail: Norms) -> list[str]:
    rows = [("weight", *(f"`{arm}`, {kind}" for arm in detail.arms if arm != detail.against for kind in KINDS))]
    layers = next(iter(detail.arms.values())).layers[KINDS[0]]
    for layer in layers:
        cells = [
            difference(norms.ratios[kind].get(layer), kind)
            for arm, norms in detail.arms.items()
            if arm != detail.against
            for kind in KINDS
        ]
        rows.append((f"`{layer}`", *cells))
    return [
        f"Norms by layer against `{detail.against}`, in per cent of its own: mean over training, then geometric mean over "
        "the seeds with its 95 % interval.",
        markdown(rows),
    ]


def _profile(detail: Profile) -> list[str]:
    first, *others = detail.arms
    rows: list[tuple[str, ...]] = [
        (
            "site",
            "units",
            *(f"`{arm}`, {what}" for what in ("never, %", "at most 1 %, %") for arm in detail.arms),
            *(f"`{arm}` minus `{first}` at most 1 %, points" for arm in others),
        )
    ]
    rows += [
        (
            f"`{site}`",
            str(len(next(iter(detail.arms[first][site].values())))),
            *(f"{100 * detail.share(arm, site, at_most).value:.1f}" for at_most in (0.0, 0.01) for arm in detail.arms),
            *(points_of(detail.difference(arm, first, site, 0.01)) for arm in others),
        )
        for site in detail.sites
    ]
    return [
        "Share of the units of each site that never fire, and that fire at no more than 1 % of samples and positions; mean "
        "over the seeds, the difference paired by seed with its 95 % interval.",
        markdown(rows),
    ]


def _landscapes(detail: Landscapes) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("arm", "n", "loss there", "largest curvature", "curvature along the directions (95 % interval)")
    ]
    for arm, seeds in detail.arms.items():
        middle, top, along = (
            [value for found in seeds.values() if (value := getattr(found, name)) is not None]
            for name in ("middle", "top", "along")
        )
        rows.append((f"`{arm}`", str(len(seeds)), _mean(middle), _mean(top), _mean(along)))
    grid = detail.grid
    return [
        f"The loss around the end of each run, on {grid.images:,} test images: the largest curvature is the Hessian's largest "
        f"eigenvalue on {grid.curved:,} of them, after {grid.iterations} power iterations. Arithmetic means over the seeds "
        "with their 95 % intervals; the claim is judged by the ratio, paired by seed. The figures are of the first seed that "
        "both have.",
        markdown(rows),
    ]


def _mean(values: Sequence[float]) -> str:
    return estimate(values).in_words("{:.3g}".format) if values else MISSING
