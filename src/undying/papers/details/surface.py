"""A loss around given parameters: on a plane of random directions, and its largest curvature.

Directions are those of Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", arXiv:1712.09913: normal random
numbers, each filter of which has the norm of the network's own filter. Biases and batch norm's parameters stay as they are,
and batch norm works with the running statistics of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from undying.papers.table import Grid


def directions(parameters: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """A random direction with the norms of the filters (first axis) of ``parameters``; 0 for those with one axis or none,
    which are biases and batch norm's."""
    return [_direction(p.detach(), generator) if p.ndim > 1 else torch.zeros_like(p) for p in parameters]


def _direction(p: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device)
    scale: Tensor = p.flatten(1).norm(dim=1) / drawn.flatten(1).norm(dim=1)
    return drawn * scale.view(-1, *[1] * (p.ndim - 1))


@torch.no_grad()
def surface(
    loss: Callable[[], float],
    parameters: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    grid: Grid,
) -> list[list[float]]:
    """``loss()`` with ``parameters`` moved along both directions; a row a step along the second. They are put back."""
    start = [p.clone() for p in parameters]
    steps = torch.linspace(-grid.reach, grid.reach, grid.points, dtype=torch.float64).tolist()
    try:
        return [[_moved(loss, parameters, start, first, second, a, b) for a in steps] for b in steps]
    finally:
        for p, at in zip(parameters, start, strict=True):
            p.copy_(at)


def _moved(
    loss: Callable[[], float],
    parameters: Sequence[Tensor],
    start: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    a: float,
    b: float,
) -> float:
    for p, at, one, two in zip(parameters, start, first, second, strict=True):
        p.copy_(at + a * one + b * two)
    return loss()


def curvature_along(losses: Sequence[Sequence[float]], grid: Grid) -> float:
    """Mean of the second differences of ``losses`` along both directions, in the middle of the grid."""
    m, step = grid.points // 2, 2 * grid.reach / (grid.points - 1)
    around = losses[m][m - 1] + losses[m][m + 1] + losses[m - 1][m] + losses[m + 1][m]
    return (around - 4 * losses[m][m]) / (2 * step**2)


def top_curvature(loss: Tensor, parameters: Sequence[Tensor], iterations: int, generator: torch.Generator) -> float:
    """The largest eigenvalue of the Hessian of ``loss`` in ``parameters``, by power iteration from random vectors.

    Power iteration finds the eigenvalue of largest absolute value. Where that is below 0, as early in training, it is
    repeated on the Hessian with that eigenvalue subtracted from its diagonal, which has none below 0.
    """
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)

    def iterate(shift: float) -> float:
        vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in parameters]
        value = 0.0
        for _ in range(iterations):
            length = float(torch.stack([v.norm() for v in vector]).norm())
            if length == 0:
                break
            vector = [v / length for v in vector]
            products = torch.autograd.grad(
                gradients, parameters, grad_outputs=vector, retain_graph=True, materialize_grads=True
            )
            shifted = [p - shift * v for p, v in zip(products, vector, strict=True)]
            value = sum(float((s * v).sum()) for s, v in zip(shifted, vector, strict=True))
            vector = shifted
        return value + shift

    largest = iterate(0.0)
    return largest if largest >= 0 else iterate(largest)
