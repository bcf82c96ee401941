"""The loss around a trained network: on a plane of random directions, and its largest curvature.

Directions are those of Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", arXiv:1712.09913: normal random
numbers, each filter of which has the norm of the network's own filter. Biases and batch norm's parameters stay as they are,
and batch norm works with the running statistics of training.

SUGAR's forward pass is ReLU's, so a network that was trained with it is looked at with ReLU: its derivatives are then those
of the loss, and not of a surrogate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from undying._base.errors import UndyingError
from undying._base.files import write_text
from undying.lab.execution import Execution
from undying.lab.runs.batches import Batches, dataset_of
from undying.lab.runs.classification import build_model
from undying.lab.settings import AnyRun, RunConfig
from undying.lab.store import Store
from undying.papers.table import Grid

FILE = "landscape.json"
FORMAT = 1


@dataclass(frozen=True)
class Landscape:
    """The loss around one run's end, on the first test data."""

    losses: Sequence[Sequence[float | None]]
    """A row a step along the second direction, an entry a step along the first; None where not finite."""
    top: float | None
    """The largest eigenvalue of the loss's Hessian in all parameters; None where not finite."""
    along: float | None
    """Mean curvature along the two directions, by second differences in the middle of the grid."""

    @property
    def middle(self) -> float | None:
        """The loss of the network itself."""
        half = len(self.losses) // 2
        return self.losses[half][half]


def chart(config: RunConfig, grid: Grid, execution: Execution, store: Store) -> None:
    """Compute the landscape of a finished run from its weights and store it beside them; nothing, if it has none.

    Raises:
        UndyingError: its weights cannot be read, or the data changed.
        OSError: it cannot be written.
    """
    weights = store.weights(config)
    if weights is None:
        return
    dataset = dataset_of(config, execution)
    batches = Batches(dataset, config, execution)
    model = build_model(replace(config, activation="relu"), dataset).to(batches.device)
    model.load_state_dict(weights)
    model.eval()
    x, y = _first(batches, grid.images)
    parameters = list(model.parameters())
    draws = torch.Generator().manual_seed(config.seed)  # the same for every activation of a seed
    first, second = directions(parameters, draws), directions(parameters, draws)
    losses = surface(lambda: float(F.cross_entropy(model(x), y)), parameters, first, second, grid)
    part = slice(grid.curved)
    top = top_curvature(F.cross_entropy(model(x[part]), y[part]), parameters, grid.iterations, draws)
    content = {
        "format": FORMAT,
        "grid": asdict(grid),
        "losses": [[_finite(loss) for loss in row] for row in losses],
        "top": _finite(top),
        "along": _finite(curvature_along(losses, grid)),
    }
    write_text(store.path(config, FILE), json.dumps(content, indent=1, allow_nan=False) + "\n")


def read(config: AnyRun, grid: Grid, store: Store) -> Landscape | None:
    """What ``chart`` stored; None if it did not, or for another grid.

    Raises:
        UndyingError: it cannot be read.
    """
    path = store.path(config, FILE)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise UndyingError(f"{path} was written by a newer undying; upgrade undying")
        if content["grid"] != asdict(grid):
            return None
        return Landscape(content["losses"], content["top"], content["along"])
    except (ValueError, KeyError, TypeError):
        raise UndyingError(f"{path} cannot be read: it is damaged; delete it and give the same command again") from None


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


def _first(batches: Batches, number: int) -> tuple[Tensor, Tensor]:
    """The first test samples."""
    x, y = (torch.cat(parts) for parts in zip(*batches.test(), strict=True))
    return x[:number], y[:number]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
