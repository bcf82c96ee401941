"""What the lines of metrics.jsonl say of units and weights: written by every kind of run, read by everybody else."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from undying.census.results import Census
from undying.lab.treatments import Applied


def unit_metrics(counted: Census) -> dict[str, Any]:
    """What a line says of the units."""
    return {
        "sparsity": counted.sparsity,
        "sites": [
            {
                "name": site.name,
                "units": site.units,
                "silent": int(site.silent.sum()) if site.silent is not None else None,
                "dead": int(site.dead.sum()) if site.dead is not None else None,
                "dormant": int(site.dormant.sum()),
                # Which they are, for what died and revived between two lines: a run that is resumed knows only the lines.
                **({"silent_units": packed(site.silent)} if site.silent is not None else {}),
            }
            for site in counted.sites
        ],
    }


def packed(mask: Tensor) -> str:
    """A mask of units as base64 of its bits, unit 0 the first.

    >>> packed(torch.tensor([True, False, False, False, False, False, False, True, True]))
    'gYA='
    """
    return base64.b64encode(np.packbits(mask.cpu().numpy()).tobytes()).decode()


def silent_units(site: Mapping[str, Any]) -> np.ndarray | None:
    """Which units of a site are silent, from its line; None where that is not known, as in runs of early versions."""
    if site.get("silent_units") is None:
        return None
    bits = np.frombuffer(base64.b64decode(site["silent_units"]), dtype=np.uint8)
    return np.unpackbits(bits, count=site["units"]).astype(bool)


def treatment_metrics(treatment: Applied, *, last: bool) -> dict[str, Any]:
    """What a line says of a treatment that recycles: units so far; the last one also the sites of which it cannot recycle
    all units, with the reasons."""
    if not treatment.recycles:
        return {}
    refused = treatment.refused if last else {}
    return {"recycled": treatment.recycled, **({"refused": refused} if refused else {})}


def check_lines(lines: Sequence[Any]) -> None:
    """Of a file that anybody may have written.

    Raises:
        ValueError: a line lacks what every reader asks for, or a value is of another kind.
    """
    for number, line in enumerate(lines, 1):
        if not (isinstance(line, dict) and _whole(line.get("epoch")) and _number(line.get("seconds"))):
            raise ValueError(f"line {number} is not that of an epoch")
        sites = line.get("sites", [])
        measured = [name for name in line if name in _MEASURED or name.startswith(_SCORED)]
        wrong = [name for name in measured if line[name] is not None and not _number(line[name])]
        if wrong or not isinstance(sites, list) or not all(map(_is_site, sites)):
            raise ValueError(f"line {number} holds something else as {wrong[0] if wrong else 'sites'}")
        refused = line.get("refused", {})
        if not isinstance(refused, dict) or not all(isinstance(reason, str) for reason in refused.values()):
            raise ValueError(f"line {number} holds something else as refused")


_MEASURED = ("train_loss", "train_accuracy", "gradient_norm", "update_norm", "sparsity", "recycled", "train_seconds")
_SCORED = ("test_", "validation_")


def _is_site(site: object) -> bool:
    return (
        isinstance(site, dict)
        and isinstance(site.get("name"), str)
        and _whole(site.get("units"))
        and all(
            state in site and (site[state] is None or _whole(site[state])) for state in ("silent", "dead", "dormant")
        )
        and _is_packed(site.get("silent_units"), site["units"])
    )


def _is_packed(mask: object, units: int) -> bool:
    if mask is None:
        return True
    size = -(-units // 8)
    shape = r"[A-Za-z0-9+/]*={0,2}"
    return isinstance(mask, str) and len(mask) == 4 * -(-size // 3) and re.fullmatch(shape, mask) is not None


def _whole(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e300


def score(lines: Sequence[Mapping[str, Any]]) -> tuple[str, float | None]:
    """(the metric that decides, its value on the test data when it was measured last): the first that is no loss; None where
    it was not finite, or never measured."""
    for line in reversed(lines):
        for key, value in line.items():
            if key.startswith("test_") and key != "test_loss":
                return key.removeprefix("test_"), value
    return "accuracy", None


def share(line: Mapping[str, Any], state: str) -> float | None:
    """Share of silent, dead or dormant units in a line, over the sites of which it is known; None where it is known of
    none."""
    sites = [site for site in line.get("sites", ()) if site[state] is not None]
    if not sites:
        return None
    value: float = sum(site[state] for site in sites) / sum(site["units"] for site in sites)
    return value


def recycled_share(line: Mapping[str, Any]) -> float:
    """Units recycled so far over all units, which may be more than 1; 0 in a line that says nothing of either."""
    units = sum(site["units"] for site in line.get("sites", ()))
    return line.get("recycled", 0) / units if units else 0.0


def last_counted(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last line at which the units could be counted; nothing for a network that was not finite from the start."""
    return next((line for line in reversed(lines) if "sites" in line), {})


def or_nan(value: float | None) -> float:
    """A number that is not known is NaN where numbers are needed."""
    return math.nan if value is None else value


def weights_sha256(model: nn.Module) -> str:
    """Of parameters and buffers."""
    return sha256(part for name, tensor in model.state_dict().items() for part in (f"{name} ", tensor))


def sha256(parts: Iterable[Tensor | str]) -> str:
    """Of texts, and of tensors with their types and shapes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
