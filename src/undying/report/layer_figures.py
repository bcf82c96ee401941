"""Heat maps of units by layer and epoch, with their numbers for the slider below them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from undying._base.text import clean, clip, isolated, known
from undying.lab.results import ActivationResult, Results, SiteHistory
from undying.plots.heat import Map, heat_maps
from undying.report.drawing import Drawing
from undying.report.words import listed, percent

_NAMED = 12
"""Most counted epochs that a caption names."""


def layers(results: Results, kind: str, prefix: str = "") -> list[Drawing]:
    """Heat maps of silent or dead units: a panel an activation that ever had one, a row a site, a column an epoch; nothing
    where none had any."""
    numbered = any(len(site.name) > 11 for activation in results.activations for site in activation.sites)
    has = [
        any(share for site in activation.sites for share in getattr(site, kind)) for activation in results.activations
    ]
    shown = [(arm, activation) for arm, activation in enumerate(results.activations) if has[arm]]
    if not shown:
        return []
    maps = [
        Map(
            activation.name,
            [str(row) if numbered else clip(site.name, 11) for row, site in enumerate(activation.sites, 1)],
            [_held(getattr(site, kind)) for site in activation.sites],
            arm,
        )
        for arm, activation in shown
    ]
    caption = (
        "A row is a layer, from the input (top) to the output; a column is an epoch, and epoch 0 is before training."
    )
    if numbered:
        caption += " Layers are numbered as in the table below."
    if [list(getattr(site, kind)) for _, activation in shown for site in activation.sites] != [
        row for one in maps for row in one.shares
    ]:
        caption += f" Counted at {_epochs([site for _, activation in shown for site in activation.sites], kind)}; an epoch between two counts shows the first."
    if not all(known(share) for one in maps for row in one.shares for share in row):
        caption += " Grey: not known."
    left_out = [activation.name for activation, drawn in zip(results.activations, has, strict=True) if not drawn]
    if left_out:
        caption += f" Left out, as no unit was known to be {kind} at any epoch: {listed(left_out)}."
    return [
        Drawing(
            heat_maps(maps, f"{kind.capitalize()} units, mean over the runs"),
            f"{prefix}layers-{kind}",
            f"{kind.capitalize()} units by layer and epoch",
            caption,
            f"Share of {kind} units by layer, mean over the runs. "
            + " ".join(_layers_in_words(activation, kind) for activation in results.activations),
            {"kind": kind, "arms": [_history(arm, activation, kind) for arm, activation in shown]},
        )
    ]


def _epochs(sites: Sequence[SiteHistory], kind: str) -> str:
    """At which there is a count, in words."""
    found = sorted({epoch for site in sites for epoch, share in enumerate(getattr(site, kind)) if known(share)})
    named = [str(epoch) for epoch in found]
    if len(named) > _NAMED:
        return f"{len(named)} epochs from {named[0]} to {named[-1]}"
    return f"epoch{'s' * (len(named) > 1)} {listed(named)}"


def _history(arm: int, activation: ActivationResult, kind: str) -> dict[str, Any]:
    """Of one panel, for the slider below it: units by site and epoch, mean over the runs, and those that died and revived
    where that was noted; None is not known or not counted."""
    sites = activation.sites
    noted = any(site.died for site in sites if _is_silent(site, kind))
    return {
        **{
            event: [[_short(of) for of in getattr(site, event)] if _is_silent(site, kind) else [] for site in sites]
            for event in (("died", "revived") if noted else ())
        },
        "arm": arm,
        "sites": [isolated(clean(site.name)) for site in sites],
        "units": [site.units for site in sites],
        "count": [
            [_short(site.units * share) if known(share) else None for share in getattr(site, kind)] for site in sites
        ],
    }


def _is_silent(site: SiteHistory, kind: str) -> bool:
    """Whether units of this kind are the silent ones, in every run: a dead unit is silent, so equal shares are the same
    units. It is so of ReLU."""
    return list(getattr(site, kind)) == list(site.silent)


def _held(shares: Sequence[float | None]) -> list[float | None]:
    """Epochs between two that were counted show the first of the two; what was not counted to the end stays unknown.

    >>> _held([0.1, None, None, 0.4, None])
    [0.1, 0.1, 0.1, 0.4, None]
    """
    counted = [epoch for epoch, share in enumerate(shares) if known(share)]
    held = list(shares)
    for epoch, following in pairwise(counted):
        held[epoch:following] = [shares[epoch]] * (following - epoch)
    return held


def _layers_in_words(activation: ActivationResult, kind: str) -> str:
    histories = [(site.name, getattr(site, kind)) for site in activation.sites]
    before = [shares[0] for _, shares in histories if shares and known(shares[0])]
    after = sorted((shares[-1], name) for name, shares in histories if shares and known(shares[-1]))
    if not before or not after:
        return f"{activation.name}: not known."
    (least, lowest), (greatest, highest) = after[0], after[-1]
    return (
        f"{activation.name}: at most {percent(max(before))} before training; "
        f"after the last epoch from {percent(least)} ({lowest}) to {percent(greatest)} ({highest})."
    )


def _short(number: float | None) -> float | None:
    """As exact as tenths of a difference of two need it, and no longer than that."""
    return round(number, 3) if known(number) else None
