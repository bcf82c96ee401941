"""A census as a page: every site as a strip of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undying._base import text
from undying._version import __version__
from undying.census.results import Census
from undying.census.site import Site
from undying.plots.theme import THEME
from undying.report.beside import Beside
from undying.report.beside import beside as beside_of
from undying.report.examples import Unit, as_samples, shown, worst
from undying.report.html import environment
from undying.report.words import without_folder

COLUMNS = 128
"""Units in a row of a strip."""
CELL = 8
"""Side of a unit's cell in the drawing's own units."""
_GAP = 1


@dataclass(frozen=True)
class State:
    """What a unit is marked as; the first that holds."""

    name: str
    meaning: str


STATES = (
    State("dead", "silent, and no gradient reaches it"),
    State("silent", "its pre-activation was never above 0"),
    State("saturated", "always at an end of the activation's range"),
    State("unused", "all its outgoing weights are 0"),
    State("dormant", "its mean output is at most tau of the site's average"),
    State("firing", "none of these"),
)


@dataclass(frozen=True)
class Mark:
    """The units of one site in one state."""

    state: State
    count: int
    path: str
    """SVG path of their cells."""
    numbers: str
    """Which they are: ``0, 4-7``; empty for those that fire."""


_STATES = [state.name for state in STATES[:-1]]
_SHARES = ("dead", "silent", "saturated", "dormant", "unused")


@dataclass(frozen=True)
class Row:
    """One site in the overview."""

    place: int
    """In the order of the calls, from 1."""
    site: Site
    shares: list[float | None]
    """Of its units, by state; None for one that is not said of it."""
    line: str
    """Of the user's code that calls it, without its folder."""


@dataclass(frozen=True)
class Strip:
    """One site, drawn."""

    site: Site
    marks: list[Mark]
    width: int
    height: int


def census_page(
    census: Census,
    model: str,
    facts: Sequence[tuple[str, str]],
    *,
    beside: Beside | None = None,
    units: Sequence[Unit] = (),
    samples: Mapping[int, Any] | None = None,
) -> str:
    """The whole HTML document.

    Args:
        census: what was counted.
        model: name of the network.
        facts: how it was counted: (name, value) in the order to show.
        beside: what changed since another census.
        units: whose examples are shown, of a census that has them.
        samples: these samples of the data by their numbers.
    """
    strips = [_strip(site) for site in census.sites]
    said = _said(census)
    present = {mark.state for strip in strips for mark in strip.marks}
    return (
        environment()
        .get_template("census.html.j2")
        .render(
            census=census,
            model=model,
            facts=[*facts, *_gammas(census), ("undying", __version__)],
            strips=strips,
            overview=_overview(census.sites, said),
            overview_states=said,
            states=STATES,
            shown=[state for state in STATES if state in present],
            units=census.units,
            beside=beside,
            examples=census.examples,
            shown_units=shown(census, units, _STATES) if units else [],
            samples={sample.number: sample for sample in as_samples(samples or {})},
            theme=THEME,
        )
    )


def page_of(census: Census, model: str, earlier: Census | None = None) -> str:
    """The page of a census that is in memory, perhaps with what changed since an earlier one."""
    changes = None if earlier is None else beside_of(census, earlier)
    return census_page(census, model, [("network", model), *told(census)], beside=changes)


def told(census: Census) -> list[tuple[str, str]]:
    """How it was counted, as far as it knows itself."""
    return [
        ("loss", census.loss or "none: no backward pass"),
        ("tau", f"{census.tau:g}"),
        ("probe", census.probe or "not fingerprinted"),
    ]


def worst_units(census: Census) -> list[Unit]:
    """Those whose examples a page shows where none are asked for: the worst of the worst sites."""
    return worst(census, _STATES, [row.site for row in _overview(census.sites, _said(census))])


def _said(census: Census) -> list[str]:
    return [state for state in _SHARES if any(getattr(site, state) is not None for site in census.sites)]


def _overview(sites: Sequence[Site], states: Sequence[str]) -> list[Row]:
    """The site with the largest shares first, by the first state in which two differ."""
    rows = []
    for place, site in enumerate(sites, 1):
        units = [getattr(site, state) for state in states]
        shares = [None if each is None else float(each.double().mean()) for each in units]
        rows.append(Row(place, site, shares, without_folder(site.line)))
    return sorted(rows, key=lambda row: [-(share or 0.0) for share in row.shares])


def _gammas(census: Census) -> list[tuple[str, str]]:
    return [(f"gamma of what {layer} reads", f"{each.gamma:.3g}") for layer, each in census.inputs.items()]


def _strip(site: Site) -> Strip:
    left = torch.ones(site.units, dtype=torch.bool)
    marks = []
    for state in STATES:
        held = left if state.name == "firing" else _held(site, state.name) & left
        left = left & ~held
        if held.any():
            units = held.nonzero().flatten().tolist()
            numbers = "" if state.name == "firing" else ", ".join(text.ranges(units))
            marks.append(Mark(state, len(units), _path(units), numbers))
    return Strip(site, marks, CELL * min(site.units, COLUMNS), CELL * -(-site.units // COLUMNS))


def _held(site: Site, state: str) -> Tensor:
    value: Tensor | None = getattr(site, state)
    return torch.zeros(site.units, dtype=torch.bool) if value is None else value


def _path(units: Sequence[int]) -> str:
    """A rectangle for each run of units in a row."""
    parts = []
    for first, last in text.runs(units):
        for row in range(first // COLUMNS, last // COLUMNS + 1):
            a, b = max(first, row * COLUMNS), min(last, row * COLUMNS + COLUMNS - 1)
            width, side = CELL * (b - a + 1) - _GAP, CELL - _GAP
            parts.append(f"M{CELL * (a % COLUMNS)} {CELL * row}h{width}v{side}h-{width}z")
    return "".join(parts)
