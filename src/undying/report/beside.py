"""On the page of a census: what changed since another one, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from undying._base import text
from undying.census.results import Census
from undying.census.site import Site


@dataclass(frozen=True)
class Row:
    """One site in both."""

    place: int
    """In the later census, in the order of the calls, from 1."""
    site: Site
    silent: tuple[float | None, float | None]
    """Share of its units before and now; None where it is not said."""
    dead: tuple[float | None, float | None]
    died: str | None
    """Which units: ``0, 4-7``; None where silent is not said."""
    revived: str | None
    counts: tuple[int, int]
    """Of units that died, and that revived."""


@dataclass(frozen=True)
class Beside:
    """Two censuses."""

    rows: list[Row]
    notes: list[str]
    died: int
    revived: int


def beside(now: Census, then: Census, *, other_data: bool = False) -> Beside:
    """What changed, site by site; units died that fired then and are silent now.

    Args:
        now: the census of the page.
        then: one of the same network, earlier or otherwise.
        other_data: compare though the data differ.

    Raises:
        ValueError: the networks have different sites, or the data differ.
    """
    changes = now.since(then, other_probe=other_data)
    places = {name: place for place, name in enumerate(now, 1)}
    same_loss = now.loss == then.loss
    rows = []
    for site, earlier in now.paired(then):
        change = changes.get(site.name)
        rows.append(
            Row(
                places[site.name],
                site,
                (_share(earlier.silent), _share(site.silent)),
                (_share(earlier.dead), _share(site.dead)) if same_loss else (None, None),
                None if change is None else _which(change.died),
                None if change is None else _which(change.revived),
                (0, 0) if change is None else (int(change.died.sum()), int(change.revived.sum())),
            )
        )
    return Beside(rows, _notes(now, then), sum(row.counts[0] for row in rows), sum(row.counts[1] for row in rows))


def _notes(now: Census, then: Census) -> list[str]:
    notes = []
    if now.probe is None or now.probe != then.probe:
        notes.append(
            f"The other census saw other data (probe {then.probe}, now {now.probe}), so a change may be the data’s."
        )
    if now.weights is not None and now.weights == then.weights:
        notes.append("Both are of the same weights.")
    if now.loss != then.loss:
        notes.append(f"Dead is not compared: by loss {then.loss} before, {now.loss} now.")
    for census, which in ((then, "the other census"), (now, "this census")):
        if left := [*census.ambiguous, *census.left_out]:
            notes.append(f"Not compared, as {which} did not count them: {', '.join(left)}.")
    return notes


def _share(units: Tensor | None) -> float | None:
    return None if units is None else float(units.double().mean())


def _which(units: Tensor) -> str:
    return ", ".join(text.ranges(units.nonzero().flatten().tolist()))
