"""Whether a cut network gives what the network gives, and what both cost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.preserve_state import device_of, preserve_state
from undying.census.batches import Inputs, moved, unpacked
from undying.treat.probe import Probe


class Proof:
    """Runs two networks batch by batch, and keeps the largest difference of each output."""

    def __init__(self, before: nn.Module, after: nn.Module, axes: Mapping[str, int]) -> None:
        self._before, self._after, self._axes = before, after, axes
        self._changes: list[float] = []
        self._sizes: list[float] = []
        self.batches = 0

    def run(self, data: Iterable[Any], inputs: Inputs | None, where: str) -> None:
        """Take in batches, as a census does; ``where`` names one, with ``{}`` for its number from 0.

        Raises:
            RuntimeError: the cut network fails on one, or gives another number of tensors.
        """
        for i, batch in enumerate(data):
            one = Probe(self._before, [batch], inputs, self._axes).check()
            try:
                other = Probe(self._after, [batch], inputs, self._axes).check()
            except Exception as error:
                raise RuntimeError(
                    f"without the units that could go the network fails on {where.format(i)}, and with them it does not "
                    f"({type(error).__name__}: {error}): its forward pass may do other things there than on the example, on "
                    "which it was followed; nothing was changed"
                ) from error
            if len(one.outputs) != len(other.outputs):
                raise RuntimeError(
                    f"without the units that could go the network gives another number of tensors on {where.format(i)}; "
                    "nothing was changed"
                )
            self._take(self._changes, other.changes_from(one))
            self._take(self._sizes, one.sizes)
            self.batches += 1

    def _take(self, most: list[float], values: list[float]) -> None:
        most += [0.0] * (len(values) - len(most))
        most[: len(values)] = [max(a, b) for a, b in zip(most, values, strict=False)]

    @property
    def change(self) -> float:
        """Largest change of a number of an output."""
        return max(self._changes, default=0.0)

    @property
    def relative(self) -> float:
        """The same as a share of the largest absolute value of that output; of all outputs the largest."""
        shares = [
            c / size if size else math.inf * (c > 0) if c else 0.0
            for c, size in zip(self._changes, self._sizes, strict=True)
        ]
        return max(shares, default=0.0)


@dataclass(frozen=True)
class Cost:
    """Of a network."""

    parameters: int
    """Numbers in its parameters, each parameter once."""
    bytes: int
    """Of its parameters and buffers."""
    flops: int
    """Of a forward pass of the example, as torch.utils.flop_counter counts them: two for a multiplication and an
    addition in matrix products, convolutions and attention, none for anything else."""


def cost(model: nn.Module, example: Any) -> Cost:
    """What a network costs.

    Args:
        model: it.
        example: a tensor, a tuple of positional or a dict of keyword arguments.
    """
    from torch.utils.flop_counter import FlopCounterMode  # it loads what the rest of undying does without

    args, kwargs = arguments(model, example)
    counter = FlopCounterMode(display=False)
    with preserve_state(model), torch.no_grad(), counter:
        model.eval()
        model(*args, **kwargs)
    parameters = list(model.parameters())
    held = {id(t): t for t in (*parameters, *model.buffers())}
    return Cost(
        sum(p.numel() for p in parameters),
        sum(t.numel() * t.element_size() for t in held.values()),
        int(counter.get_total_flops()),
    )


def arguments(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Of a forward pass, on the network's device; copies, since a network may work in place on them."""
    args, kwargs, _ = unpacked(moved(copy.deepcopy(example), device_of(model)), lambda given: given)
    return args, kwargs


@dataclass(frozen=True)
class Latency:
    """Seconds of a forward pass of the example, before and after, measured in turn."""

    before: float
    """Median over rounds."""
    after: float
    ratio: float
    """before / after: above 1 is faster."""
    low: float
    """Ends of a 95 % interval of the ratio, by the bootstrap over rounds."""
    high: float
    rounds: int
    device: str
    """Where it was measured, such as ``cpu, 2 threads``."""

    def __str__(self) -> str:
        return (
            f"{1e3 * self.before:.3g} ms -> {1e3 * self.after:.3g} ms, x {self.ratio:.3g} [{self.low:.3g}, {self.high:.3g}], "
            f"{self.rounds} rounds, measured on {self.device}"
        )


def latency(before: nn.Module, after: nn.Module, example: Any, rounds: int) -> Latency:
    """Of two networks, in rounds of one pass of each, after a tenth as many that do not count."""
    args, kwargs = arguments(before, example)
    times = torch.zeros(2, rounds, dtype=torch.float64)
    for i in range(-max(1, rounds // 10), rounds):
        order = (0, 1) if i % 2 else (1, 0)
        for which in order:
            seconds = _seconds((before, after)[which], args, kwargs)
            if i >= 0:
                times[which, i] = seconds
    medians = times.median(1).values
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(rounds, (2000, rounds), generator=generator)
    ratios = times[0][drawn].median(1).values / times[1][drawn].median(1).values
    low, high = ratios.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    place = device_of(before) or torch.device("cpu")
    where = f"cpu, {torch.get_num_threads()} threads" if place.type == "cpu" else f"{place}, {_name_of(place)}"
    return Latency(float(medians[0]), float(medians[1]), float(medians[0] / medians[1]), low, high, rounds, where)


def _seconds(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    with preserve_state(model), torch.no_grad():
        model.eval()
        _wait(model)
        begun = time.perf_counter()
        model(*args, **kwargs)
        _wait(model)
        return time.perf_counter() - begun


def _wait(model: nn.Module) -> None:
    place = device_of(model)
    if place is not None and place.type == "cuda":
        torch.cuda.synchronize(place)


def _name_of(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else place.type


def coarsest(tensors: Iterable[Tensor]) -> float:
    """The rounding of the coarsest type below float32 of these; 0 without such a type."""
    types = {t.dtype for t in tensors if t.is_floating_point()}
    return max([0.0, *(torch.finfo(t).eps for t in types if torch.finfo(t).bits < 32)])
