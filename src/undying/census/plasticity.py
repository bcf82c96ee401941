"""How much of a network is in use: rank of the features at each site, weight norms, silent and dormant units.

The rank is that of the matrix of a site's outputs, a row for each value and a column a unit, as it is, without its mean
taken off. Its singular values are roots of the eigenvalues of the second-moment matrix, which is what is kept of the data.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base import text
from undying._base.equal import Equal
from undying._base.patterns import ROOT, Skip
from undying._base.unwrap import unwrap_model
from undying.census.accumulators import WIDEST
from undying.census.batches import Inputs, Mask
from undying.census.census import counted
from undying.census.norms import norms
from undying.census.results import Census
from undying.census.site import Site, labelled, plain
from undying.census.site_counts import SiteCounts

__all__ = ["PlasticSite", "Plasticity", "plasticity"]

_DELTA = 0.01


@dataclass(frozen=True, eq=False)
class PlasticSite(Equal):
    """One site."""

    site: Site
    """What the census counted there."""
    effective_rank: float | None
    """exp of the entropy of the singular values over their sum (Roy and Vetterli 2007), from 1 to the number of units; 0
    where all outputs are 0, NaN where one is not finite, None where the site is too wide."""
    srank: int | None
    """How many of the largest singular values make up 99 % of their sum (Kumar et al. 2021, delta = 0.01); 0 where all
    outputs are 0, None where one is not finite or the site is too wide."""
    weight_norm: float | None
    """L2 norm of the weight of ``site.layer``; None without a layer."""


@dataclass(frozen=True)
class Plasticity:
    """A row a site, in the order of the calls; prints as a table, in a notebook too."""

    rows: tuple[PlasticSite, ...]
    census: Census
    weight_norms: dict[str, float]
    """L2 norm of the weight of each layer, by name, also of layers that make no site's units. Biases, and the weights of
    norms, do not count."""

    def __getitem__(self, name: str) -> PlasticSite:
        site = self.census[name]
        return next(row for row in self.rows if row.site is site)

    def __iter__(self) -> Iterator[PlasticSite]:
        return iter(self.rows)

    def __contains__(self, row: object) -> bool:
        """Whether a site of this name, or this row, is there."""
        return any(row == each.site.name or row == each for each in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: shares of units, not every unit; NaN and infinities are strings."""
        rows = [
            {
                "site": row.site.name,
                "layer": row.site.layer,
                "units": row.site.units,
                "values": row.site.values,
                "silent": _fraction(row.site.silent),
                "dormant": _fraction(row.site.dormant),
                "effective_rank": plain(row.effective_rank),
                "srank": row.srank,
                "weight_norm": plain(row.weight_norm),
            }
            for row in self.rows
        ]
        weight_norms = {layer: plain(norm) for layer, norm in self.weight_norms.items()}
        return {"tau": self.census.tau, "rows": rows, "weight_norms": weight_norms, "notes": self.notes}

    @property
    def notes(self) -> list[str]:
        """What stands below the table: other layers, ranks that are not computed or bounded by the data, the census's notes."""
        made = {row.site.layer for row in self.rows}
        others = [f"{layer} {_number(norm)}" for layer, norm in self.weight_norms.items() if layer not in made]
        lines = [f"weight norms of other layers: {', '.join(others)}"] if others else []
        for row in self.rows:
            if row.effective_rank is None:
                lines.append(f"{row.site.name}: no rank, as it has more than {WIDEST} units")
            elif row.site.values < row.site.units:
                lines.append(f"{row.site.name}: no rank can be above the {row.site.values} values that it saw")
        return lines + self.census.notes

    def __str__(self) -> str:
        return "\n".join([text.table(self._cells(labelled(self.census.sites)), left=1), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        labels = ["site", *(row.site.label for row in self.rows)]
        return text.html_table(self._cells(labels)) + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)

    def _cells(self, labels: list[str]) -> list[tuple[str, ...]]:
        head = (labels[0], "units", "silent", "dormant", "eff. rank", "srank", "weight norm")
        return [
            head,
            *(
                (
                    label,
                    str(row.site.units),
                    _percent(_fraction(row.site.silent)),
                    _percent(_fraction(row.site.dormant)),
                    "-" if row.effective_rank is None else f"{row.effective_rank:.1f}",
                    "-" if row.srank is None else str(row.srank),
                    "-" if row.weight_norm is None else _number(row.weight_norm),
                )
                for label, row in zip(labels[1:], self.rows, strict=True)
            ),
        ]


def plasticity(
    model: nn.Module,
    data: Iterable[Any],
    *,
    method: str | Callable[..., Any] | None = None,
    tau: float = 0.025,
    inputs: Inputs | None = None,
    mask: Mask | None = None,
    axes: Mapping[str, int] | None = None,
    skip: str | Sequence[str] | Skip = (),
    device: torch.device | str | None = None,
) -> Plasticity:
    """Rank of the features, share of silent and dormant units, and weight norms of ``model``, in one table.

    Features are the outputs of a site, with a row for each sample, and for each position of it: a map (N, C, H, W) gives
    N * H * W rows of C. The outputs are not kept: each site of C units keeps C * C float64 numbers on its device.

    Args:
        model, data, method, tau, inputs, mask, axes, skip, device: as for :func:`undying.census`. The rank cannot be above
            the number of values, so give several times as many samples as a layer has units.

    Raises:
        ValueError, TypeError: as for :func:`undying.census`.

    >>> import torch, undying
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.eye(4)), net[2].weight.fill_(0.5)
    >>> print(undying.plasticity(net, torch.eye(4) - torch.eye(4)[:, [1, 2, 3, 0]]))
    layer -> site  units  silent  dormant  eff. rank  srank  weight norm
        0 -> 1         4   0.0 %    0.0 %        4.0      4            2
    weight norms of other layers: 2 1.414
    layer 0 reads the input: gamma 0 (|mean| / std)
    """
    model = unwrap_model(model)
    census, counts = counted(model, data, method, tau, False, None, inputs, mask, axes, skip, device, moments=True)
    weight_norms = norms(dict(_weights(model)))
    rows = (
        PlasticSite(site, *_ranks(counts[site.name]), None if site.layer is None else weight_norms.get(site.layer))
        for site in census.sites
    )
    return Plasticity(tuple(rows), census, weight_norms)


def _ranks(counts: SiteCounts) -> tuple[float | None, int | None]:
    if counts.moments is None:
        return None, None
    matrix = counts.moments.matrix
    return ranks(torch.linalg.eigvalsh(matrix).cpu()) if bool(matrix.isfinite().all()) else (math.nan, None)


def ranks(squares: Tensor) -> tuple[float, int]:
    """(effective rank, srank) from the squares of the singular values: float64, in ascending order.

    >>> effective, srank = ranks(torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    >>> round(effective, 9), srank
    (4.0, 4)
    """
    # What rounding leaves of a 0 is not to count: its root is much larger than it.
    noise = len(squares) * torch.finfo(torch.float64).eps * squares[-1]
    values = torch.where(squares > noise, squares, 0).sqrt().flip(0)
    if not values[0] > 0:
        return 0.0, 0
    shares = values / values.sum()
    return math.exp(float(torch.special.entr(shares).sum())), int((shares.cumsum(0) < 1 - _DELTA).sum()) + 1


def _weights(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """By name of the layer: its weight, or all of them as one vector; by its own name a weight that is no layer's.

    A computed weight, as of a parametrization, counts as what it is.
    """
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue
        weight = getattr(module, "weight", None)
        own = {key: p.detach() for key, p in module.named_parameters(recurse=False) if p.dim() > 1}
        if isinstance(weight, Tensor):
            if weight.dim() > 1 and weight.is_floating_point():
                yield name or ROOT, weight.detach()
        elif isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
            yield name or ROOT, torch.cat([p.flatten() for p in own.values()])
        else:
            yield from ((f"{name}.{key}" if name else key, parameter) for key, parameter in own.items())


def _fraction(units: Tensor | None) -> float | None:
    return None if units is None else float(units.double().mean())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float) -> str:
    return f"{value:.4g}"
