"""What was proved: bounds a site, what they hold for, and their file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undying._base import text
from undying._base.equal import Equal
from undying._base.files import write_named
from undying.certify.box import Box

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class CertifiedSite(Equal):
    """One call of an activation: bounds of each unit's pre-activation over the box and all positions."""

    name: str
    """As the census names it: qualified module name, ``#2`` for the module's second call."""
    kind: str
    """Type of the activation."""
    upper: Tensor | None
    """float64, one entry a unit: no input in the box takes the pre-activation above it. None where the certificate
    ended before this site."""
    lower: Tensor | None
    """float64: nor below this."""

    @property
    def reached(self) -> bool:
        """Whether there are bounds."""
        return self.upper is not None

    @property
    def units(self) -> int | None:
        """How many units; None where not reached."""
        return None if self.upper is None else self.upper.numel()

    @property
    def dead(self) -> Tensor | None:
        """bool: certified dead, upper <= 0: the unit fires for no input in the box."""
        return None if self.upper is None else self.upper <= 0

    @property
    def always_on(self) -> Tensor | None:
        """bool: lower > 0: the unit fires for every input in the box, at every position."""
        return None if self.lower is None else self.lower > 0


@dataclass(frozen=True)
class Certificate(Mapping[str, CertifiedSite]):
    """What holds for every input in ``box``, in eval mode, with the weights and torch's settings as they were."""

    sites: list[CertifiedSite]
    """In call order."""
    stopped: list[str]
    """Operations that could not be bounded, as ``module (operation)``: the certificate ends there."""
    box: Box
    model: str
    """Type of the network."""
    dtype: str
    """Type it computes in."""
    unrecognised: list[str] = field(default_factory=list)
    """Operations that act as an activation and are none that is known, such as ``x.clamp(min=0)``, as ``module.operation``:
    what their units do is not certified."""
    weights: str | None = field(default=None, compare=False)
    """Fingerprint of the network's parameters and buffers, of their bits, shapes and types; None where they cannot be read,
    and in a file that does not say."""

    def __getitem__(self, name: str) -> CertifiedSite:
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(f"no site {name!r}; sites: {', '.join(site.name for site in self.sites)}")

    def __iter__(self) -> Iterator[str]:
        return (site.name for site in self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def dead_units(self) -> int:
        """Units certified dead, over the sites that were reached."""
        return sum(int(site.dead.sum()) for site in self.sites if site.dead is not None)

    @property
    def covers(self) -> str:
        """What the certificate says, in words."""
        ends = f" It ends at {', '.join(self.stopped)}: what depends on them is not reached." if self.stopped else ""
        if self.unrecognised:
            ends += (
                f" Not recognised, so without a line: {', '.join(self.unrecognised)}; their units are not certified."
            )
        return (
            f"Holds for every finite input of {self.box}, to {self.model} in eval mode, computed in {self.dtype}, with the "
            f"weights, buffers and torch's backends and precision as they were when it was made.{ends}"
        )

    def table(self) -> str:
        """A line a site, as text."""
        rows = [("site", "kind", "units", "dead", "always on", "largest upper bound"), *map(_row, self.sites)]
        return text.table(rows, left=2)

    def __str__(self) -> str:
        return f"{self.table()}\n{self.covers}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; infinities and NaN become the strings ``"inf"``, ``"-inf"`` and ``"nan"``."""
        return {
            "format": _FORMAT,
            "kind": "undying.Certificate",
            "model": self.model,
            "dtype": self.dtype,
            "weights": self.weights,
            "box": {"shape": list(self.box.shape), "low": _packed(self.box.low), "high": _packed(self.box.high)},
            "stopped": list(self.stopped),
            "unrecognised": list(self.unrecognised),
            "sites": [
                {
                    "name": site.name,
                    "kind": site.kind,
                    "upper": None if site.upper is None else _plain(site.upper),
                    "lower": None if site.lower is None else _plain(site.lower),
                }
                for site in self.sites
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: not a certificate, or one that a newer version wrote.
        """
        if data.get("kind") != "undying.Certificate" or not isinstance(data.get("format"), int):
            raise ValueError("not a certificate: no kind 'undying.Certificate' with a format number")
        if data["format"] > _FORMAT:
            raise ValueError(
                f"certificate has format {data['format']}, and this undying reads up to {_FORMAT}: upgrade undying to read it"
            )
        try:
            box, shape, weights = data["box"], data["box"]["shape"], data.get("weights")
            if not isinstance(weights, str | None):
                raise TypeError(f"weights {weights!r:.80}")
            return cls(
                [
                    CertifiedSite(site["name"], site["kind"], _tensor(site["upper"]), _tensor(site["lower"]))
                    for site in data["sites"]
                ],
                list(data["stopped"]),
                Box(_unpacked(box["low"], shape), _unpacked(box["high"], shape)),
                data["model"],
                data["dtype"],
                list(data.get("unrecognised", [])),
                weights,
            )
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"damaged certificate: {type(error).__name__} {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON: beside ``path`` first and then renamed, so that no half file is ever found there."""
        write_named(Path(path), json.dumps(self.to_dict(), allow_nan=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: no such file.
            ValueError: not a certificate, or one that a newer version wrote.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise ValueError("not a certificate: not a JSON object")
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _row(site: CertifiedSite) -> tuple[str, ...]:
    if site.upper is None or site.dead is None or site.always_on is None:
        return site.name, site.kind, "", "not reached", "", ""
    dead, on = int(site.dead.sum()), int(site.always_on.sum())
    largest = f"{float(site.upper.max()):.4g}" if site.units else ""
    return site.name, site.kind, str(site.units), str(dead), str(on), largest


def _plain(values: Tensor) -> list[float | str]:
    return [v if math.isfinite(v) else str(v) for v in values.flatten().tolist()]


def _tensor(values: list[float | str] | None) -> Tensor | None:
    return None if values is None else torch.tensor([float(v) for v in values], dtype=torch.float64)


def _packed(end: Tensor) -> list[float | str]:
    """One number where all are the same."""
    same = end.numel() > 0 and bool((end == end.flatten()[0]).all())
    return _plain(end.flatten()[:1] if same else end)


def _unpacked(values: list[float | str], shape: list[int]) -> Tensor:
    end = torch.tensor([float(v) for v in values], dtype=torch.float64)
    return end.expand(math.prod(shape)).reshape(shape) if len(values) == 1 else end.reshape(shape)
