"""What :func:`undying.watch` sees of one training step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from undying.census.results import Census, Changes

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """What was seen of one training step."""

    step: int
    """Number of the step, from 0."""
    census: Census
    """Counts over the step's own batches, in training mode."""
    gradient_norms: dict[str, float]
    """L2 norm of each parameter's gradient, as the optimizer was given it."""
    update_norms: dict[str, float]
    """L2 norm of what the step changed of each parameter; empty without an optimizer."""
    probe: Census | None
    """Counts over the probe after the step, in eval mode."""
    changes: dict[str, Changes]
    """By site: units that died, revived or stayed silent on the probe since the sampled step before."""
    left_out: dict[str, str] = field(default_factory=dict)
    """By site: why it is not in ``census``. A site is left out from the step on in which it could not be counted."""
    samples: int | None = None
    """How many the step's forward passes were given, whichever sites they reached; None where nothing tells. Where the training
    step calls parts of the network, those of the part that was given most."""

    def __repr__(self) -> str:
        """In a line or two; ``record.census`` shows the sites."""
        norms = {"gradient norm": self.gradient_norm, "update norm": self.update_norm}
        silent = {"in the batch": self.census.silent_fraction}
        if self.probe is not None:
            silent["on the probe"] = self.probe.silent_fraction
        sites = len(self.census)
        said = [f"{sites} site{'s' * (sites != 1)}", f"{self.census.units} units"]
        said += [f"{name} {value:.3g}" for name, value in norms.items() if value is not None]
        said += [f"{100 * share:.1f} % silent {where}" for where, share in silent.items() if share is not None]
        if self.changes:
            said += [
                f"{sum(map(len, of.values()))} {what}" for what, of in (("died", self.died), ("revived", self.revived))
            ]
        return f"Record(step {self.step}: {', '.join(said)})"

    @property
    def gradient_norm(self) -> float | None:
        """L2 norm over all parameters; None where no gradient was there."""
        return _total(self.gradient_norms)

    @property
    def update_norm(self) -> float | None:
        """L2 norm of the whole update, \\|\\|w_t - w_(t-1)\\|\\|; None without an optimizer."""
        return _total(self.update_norms)

    @property
    def died(self) -> dict[str, list[int]]:
        """Units that fell silent on the probe, by site; only sites with any."""
        return {name: _units(change.died) for name, change in self.changes.items() if change.died.any()}

    @property
    def revived(self) -> dict[str, list[int]]:
        """Units that fire again on the probe, by site; only sites with any."""
        return {name: _units(change.revived) for name, change in self.changes.items() if change.revived.any()}

    def scalars(self) -> dict[str, float]:
        """What a plot over steps shows, by name; shares are of all units."""
        values = {
            "gradient_norm": self.gradient_norm,
            "update_norm": self.update_norm,
            "sparsity": self.census.sparsity,
            "silent": self.census.silent_fraction,
            "saturated": self.census.saturated_fraction,
            "dormant": self.census.dormant_fraction,
        }
        if self.probe is not None:
            values["probe/silent"] = self.probe.silent_fraction
            values["probe/dead"] = self.probe.dead_fraction
            values["probe/died"] = float(sum(map(len, self.died.values())))
            values["probe/revived"] = float(sum(map(len, self.revived.values())))
        for site in self.census.sites:
            if site.silent is not None:
                values[f"silent_at/{site.name}"] = float(site.silent.double().mean())
            values[f"dormant_at/{site.name}"] = float(site.dormant.double().mean())
            values[f"firing_rate_at/{site.name}"] = float(site.firing_rate.double().mean())
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a line of JSON: totals, counts by site, events; not every unit."""
        return {
            "step": self.step,
            "samples": self.samples,
            "gradient_norm": self.gradient_norm,
            "update_norm": self.update_norm,
            "gradient_norms": self.gradient_norms,
            "update_norms": self.update_norms,
            "sites": _summary(self.census),
            "unrecognised": list(self.census.unrecognised),
            "probe": None if self.probe is None else _summary(self.probe),
            "died": self.died,
            "revived": self.revived,
            "left_out": self.left_out,
        }


def _total(norms: Mapping[str, float]) -> float | None:
    return math.hypot(*norms.values()) if norms else None


def _units(changed: Tensor) -> list[int]:
    return changed.nonzero().flatten().tolist()


def _summary(counted: Census) -> dict[str, Any]:
    states = ("silent", "dead", "dormant", "saturated")
    return {
        site.name: {
            "units": site.units,
            "samples": site.samples,
            "values": site.values,
            **{state: int(value.sum()) for state in states if (value := getattr(site, state)) is not None},
            "rate": float(site.firing_rate.mean()),
            "zero": float(site.zero.mean()),
            "nonfinite": int(site.nonfinite.sum()),
        }
        for site in counted.sites
    }
