"""On the page of a census: the samples that fire a unit most and least, as pictures where they are images."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from undying.census.examples import Examples
from undying.census.results import Census
from undying.census.site import Site

WORST = 12
"""Units that are shown where none are asked for."""
_SIDE = 48
"""Largest side of a picture in pixels; larger images are shrunk."""
_LEAST = 4
"""Smallest side of what is taken for an image."""
_VALUES = 6
"""Of a sample that is no image, how many are written."""

Unit = tuple[str, int]
"""Name of the site and number of the unit."""


@dataclass(frozen=True)
class Shown:
    """One unit."""

    place: int
    """Of its site, in the order of the calls, from 1."""
    site: Site
    unit: int
    state: str
    most: list[tuple[int, float]]
    """(number of the sample, its peak)."""
    least: list[tuple[int, float]]


@dataclass(frozen=True)
class Sample:
    """One sample, as the page shows it."""

    number: int
    picture: str | None
    """As the address of a PNG; None where it is no image."""
    width: int
    height: int
    values: str
    """Its first values, where it is none."""


def worst(census: Census, states: Sequence[str], sites: Sequence[Site], number: int = WORST) -> list[Unit]:
    """The worst unit of each site, then the next of each: by its state in the order of ``states``, then by its firing rate.

    Args:
        census: with examples.
        states: the worst first.
        sites: of the census, the worst first.
        number: of units.
    """
    examples = census.examples
    assert examples is not None
    queues = [
        [(site.name, unit) for unit in _by_state(site, states)[:number]] for site in sites if site.name in examples
    ]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    return [unit for unit in turns if unit is not None][:number]


def shown(census: Census, units: Sequence[Unit], states: Sequence[str]) -> list[Shown]:
    """The examples of these units."""
    assert census.examples is not None
    places = {name: place for place, name in enumerate(census, 1)}
    rows = []
    for name, unit in units:
        site, of = census[name], census.examples[name]
        held = (state for state in states if (value := getattr(site, state)) is not None and value[unit])
        ends = (
            [(n, peak) for n, peak in zip(numbers[unit].tolist(), peaks[unit].tolist(), strict=True) if n >= 0]
            for numbers, peaks in ((of.most, of.most_peak), (of.least, of.least_peak))
        )
        rows.append(Shown(places[name], site, unit, next(held, "firing"), *ends))
    return rows


def numbers_of(examples: Examples, units: Sequence[Unit]) -> set[int]:
    """The samples of these units."""
    ends = [end[unit] for name, unit in units for end in (examples[name].most, examples[name].least)]
    return {number for end in ends for number in end.tolist() if number >= 0}


def as_sample(number: int, value: Any) -> Sample:
    """One sample of the data: an image where it is (1 or 3, H, W) of at least 4 x 4 numbers."""
    if not isinstance(value, Tensor):
        return Sample(number, None, 0, 0, "")
    if value.dim() == 3 and value.shape[0] in (1, 3) and min(value.shape[1:]) >= _LEAST:
        pixels = _pixels(value)
        return Sample(number, _png(pixels), pixels.shape[2], pixels.shape[1], "")
    few = value.flatten()[:_VALUES].tolist()
    return Sample(number, None, 0, 0, ", ".join(f"{v:.3g}" for v in few) + ", …" * (value.numel() > _VALUES))


def _by_state(site: Site, states: Sequence[str]) -> list[int]:
    rank = torch.full((site.units,), len(states), dtype=torch.float64)
    for at, state in reversed(list(enumerate(states))):
        if (value := getattr(site, state)) is not None:
            rank[value] = at
    return (rank + site.firing_rate / 2).argsort(stable=True).tolist()


def _pixels(value: Tensor) -> Tensor:
    """uint8, from the least value (black) to the largest (white), no side above the largest."""
    x = value.detach().cpu().double().nan_to_num()
    scale = max(x.shape[1:]) / _SIDE
    if scale > 1:
        x = F.interpolate(x[None], [max(1, round(side / scale)) for side in x.shape[1:]], mode="area")[0]
    low, high = x.min(), x.max()
    return ((x - low) / (high - low).clamp(min=1e-300) * 255).round().to(torch.uint8)


def _png(pixels: Tensor) -> str:
    from PIL import Image

    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(array.contiguous().numpy()).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def as_samples(values: Mapping[int, Any]) -> list[Sample]:
    """All that the page shows, by number."""
    return [as_sample(number, values[number]) for number in sorted(values)]
