"""Boxes: all inputs between two ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undying._base.equal import Equal
from undying.census.batches import batches_of


@dataclass(frozen=True, eq=False)
class Box(Equal):
    """All inputs x of one shape with low <= x <= high, elementwise.

    Args:
        low, high: tensors that broadcast to the shape of the network's input **with its batch axis**, usually of
            length 1: ``(1, 3, 64, 64)``. ``low`` may be -inf and ``high`` inf; the inputs themselves are finite.

    Raises:
        ValueError: NaN, low > high somewhere, low = inf or high = -inf, no batch axis, or shapes that do not fit.
        TypeError: not real numbers.
    """

    low: Tensor
    """float64, on the CPU."""
    high: Tensor

    def __post_init__(self) -> None:
        low, high = (_real(name, end) for name, end in (("low", self.low), ("high", self.high)))
        try:
            low, high = torch.broadcast_tensors(low, high)
        except RuntimeError:
            raise ValueError(
                f"box: low has shape {tuple(low.shape)} and high {tuple(high.shape)}; give both the shape of the input"
            ) from None
        if low.dim() == 0:
            raise ValueError("box: low and high are single numbers; give the input's shape, with its batch axis")
        if low.numel() == 0:
            raise ValueError(f"box: shape {tuple(low.shape)} holds no input")
        if not bool(((low <= high) & (low < math.inf) & (high > -math.inf)).all()):
            raise ValueError("box: low must be at most high everywhere, below inf, with high above -inf and no NaN")
        object.__setattr__(self, "low", low.contiguous())
        object.__setattr__(self, "high", high.contiguous())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input, with its batch axis."""
        return tuple(self.low.shape)

    @classmethod
    def of(cls, data: Iterable[Any]) -> Box:
        """The smallest box, with a batch axis of length 1, that holds ``data``: batches as :func:`undying.census` takes
        them, of one floating point input (dicts of one entry).

        Raises:
            ValueError: no data, more than one input, an empty batch, NaN, or samples of different shapes.
            TypeError: an input that is not real floating point numbers.

        >>> Box.of(torch.tensor([[0.0, 3.0], [1.0, 2.0]])).high
        tensor([[1., 3.]], dtype=torch.float64)
        """
        low: Tensor | None = None
        high: Tensor | None = None
        for batch in batches_of(data):
            x = _real("data", _input_of(batch))
            if x.dim() == 0 or x.shape[0] == 0:
                raise ValueError(f"Box.of: a batch of shape {tuple(x.shape)} holds no sample")
            if low is not None and x.shape[1:] != low.shape[1:]:
                raise ValueError(f"Box.of: samples of shape {tuple(x.shape[1:])} after {tuple(low.shape[1:])}")
            least, most = x.amin(0, keepdim=True), x.amax(0, keepdim=True)
            low = least if low is None else torch.minimum(low, least)
            high = most if high is None else torch.maximum(high, most)
        if low is None or high is None:
            raise ValueError("Box.of: data gave no batch")
        return cls(low, high)

    @classmethod
    def nonnegative(cls, shape: Iterable[int]) -> Box:
        """All finite inputs >= 0 of a shape, with its batch axis: what a network sees behind a ReLU.

        >>> Box.nonnegative((1, 2)).high
        tensor([[inf, inf]], dtype=torch.float64)
        """
        low = torch.zeros(tuple(shape), dtype=torch.float64)
        return cls(low, torch.full_like(low, math.inf))

    @classmethod
    def from_preprocessing(
        cls,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        size: Sequence[int],
        *,
        pixels: tuple[float, float] = (0.0, 1.0),
        channels: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Box:
        """All images that a preprocessing can give: pixels in a range, of which (pixel - mean) / std is taken.

        The ends are wider than these numbers by what float32 and ``dtype`` round, in whatever way the preprocessing
        computes it.

        Args:
            mean, std: one a channel, or one for all; in the units of ``pixels``.
            size: (height, width) of what the network gets.
            pixels: least and largest value of a pixel before: 0 and 1, as ``ToTensor`` gives, or 0 and 255.
            channels: their number, where one mean and one std are for all; default: the length of ``mean`` and ``std``.
            dtype: what the network computes in.

        Raises:
            ValueError: numbers that are not finite, std that is not above 0, or lengths that do not fit.

        >>> str(Box.from_preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (224, 224)))
        '(1, 3, 224, 224) in [-2.11791, 2.64]'
        """
        means, stds = (torch.as_tensor(value, dtype=torch.float64).flatten() for value in (mean, std))
        number = channels or max(len(means), len(stds))
        if not {len(means), len(stds)} <= {1, number}:
            raise ValueError(f"box: {len(means)} means and {len(stds)} standard deviations for {number} channels")
        low, high = (torch.tensor(float(end), dtype=torch.float64) for end in pixels)
        if not bool(
            (torch.cat([means, stds]).isfinite()).all() and (stds > 0).all() and low <= high and high.isfinite()
        ):
            raise ValueError(
                f"box: mean {mean}, std {std} and pixels {pixels} must be finite numbers, std above 0, pixels (least, largest)"
            )
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"box: size must be (height, width), each at least 1, not {tuple(size)}")
        # Four operations at most, each of which rounds its result or an argument by half of eps.
        rounding = 4 * torch.finfo(torch.float32).eps * (torch.maximum(low.abs(), high.abs()) + means.abs()) / stds
        ends = [((end - means) / stds).expand(number) for end in (low, high)]
        margins = [rounding.expand(number) + end.abs() * torch.finfo(dtype).eps for end in ends]
        shape = (1, number, *size)
        return cls(
            *(
                (end + sign * margin).view(1, -1, 1, 1).expand(shape)
                for end, margin, sign in zip(ends, margins, (-1, 1), strict=True)
            )
        )

    def __contains__(self, x: Tensor) -> bool:
        """Whether every sample of a batch lies in the box (of batch length 1, or of the batch's own)."""
        return bool(((x.double().cpu() >= self.low) & (x.double().cpu() <= self.high)).all())

    def __str__(self) -> str:
        return f"{tuple(self.shape)} in [{float(self.low.min()):.6g}, {float(self.high.max()):.6g}]"


def _real(name: str, value: Any) -> Tensor:
    tensor: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    if not tensor.is_floating_point():
        raise TypeError(
            f"box: {name} must hold real floating point numbers, not {tensor.dtype}; token ids have no range"
        )
    return tensor.detach().to("cpu", torch.float64)


def _input_of(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        if len(batch) != 1:
            raise ValueError(
                f"Box.of: a batch has the inputs {', '.join(map(str, batch))}; certify takes networks of one input"
            )
        return next(iter(batch.values()))
    return batch[0] if isinstance(batch, (tuple, list)) else batch
