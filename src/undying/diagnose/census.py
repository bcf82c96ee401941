"""Count, for every unit of every activation call, how often it fires on given data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying import text
from undying.diagnose.counting import Counter, SiteCounts
from undying.diagnose.fingerprint import Fingerprint
from undying.files import write_text
from undying.untouched import device_of, untouched

__all__ = ["Census", "Changes", "Site", "census"]

#: Their derivative is exactly 0 for x <= 0, so a silent unit gets no gradient.
_FLAT = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class Site:
    """One call of an activation in the forward pass. The tensors have one entry a unit, on the CPU."""

    name: str
    """Qualified module name, with ``#2`` for the module's second call."""
    kind: str
    """Type of the activation."""
    units: int
    samples: int
    """N: values seen of each unit, over samples and positions."""
    fired: Tensor
    """int64: how many of them were > 0."""
    nonfinite: Tensor
    """int64: how many of them were infinite or NaN."""
    peak: Tensor
    """float64: largest pre-activation."""
    mean_abs: Tensor
    """float64: mean of \\|h\\|, h the post-activation."""
    zero: Tensor
    """float64: share of post-activations that are exactly 0 (sparsity)."""
    score: Tensor
    """float64: dormancy score, mean \\|h\\| of the unit over its mean over the site's units (Sokar et al. 2023)."""
    silent: Tensor
    """bool: the pre-activation was <= 0 in all N values."""
    dead: Tensor | None
    """bool: silent, and the gradient of the loss at the pre-activation was exactly 0 in all N values. None where
    that is unknown: without ``gradients=True``, for an activation whose derivative below 0 is not 0."""
    dormant: Tensor
    """bool: score <= tau."""

    @property
    def rate(self) -> Tensor:
        """float64: share of values > 0."""
        return self.fired.double() / self.samples

    @property
    def rate_bound(self) -> float:
        """Upper 95 % bound on the firing rate of a silent unit, 1 - 0.05^(1/N), about 3 / N."""
        return float(-torch.expm1(torch.log(torch.tensor(0.05, dtype=torch.float64)) / self.samples))


@dataclass(frozen=True)
class Census:
    """The sites of a network in call order, with what was counted."""

    sites: list[Site]
    tau: float
    """Dormancy threshold."""
    loss: str | None
    """Name of the loss whose gradient decided ``dead``; None without ``gradients=True``."""
    probe: str
    """Fingerprint of the data: the same for the same samples in any order and batching."""

    def __getitem__(self, name: str) -> Site:
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(f"no site {name!r}; sites: {', '.join(site.name for site in self.sites)}")

    @property
    def units(self) -> int:
        """Units over all sites."""
        return sum(site.units for site in self.sites)

    @property
    def silent_fraction(self) -> float:
        """Share of all units that are silent."""
        return sum(int(site.silent.sum()) for site in self.sites) / self.units

    @property
    def dead_fraction(self) -> float | None:
        """Share of all units that are dead; None where any site's is unknown."""
        counts = [None if site.dead is None else int(site.dead.sum()) for site in self.sites]
        return None if None in counts else sum(count or 0 for count in counts) / self.units

    @property
    def dormant_fraction(self) -> float:
        """Share of all units that are dormant."""
        return sum(int(site.dormant.sum()) for site in self.sites) / self.units

    @property
    def sparsity(self) -> float:
        """Share of post-activations that are exactly 0, over all values at all sites."""
        values = sum(site.units * site.samples for site in self.sites)
        return sum(float(site.zero.sum()) * site.samples for site in self.sites) / values

    def __add__(self, other: Census) -> Census:
        """The census of both data sets together, for instance of two ranks' shares; counts add.

        Raises:
            ValueError: the censuses are of different sites, thresholds or losses.
        """
        if (self.tau, self.loss) != (other.tau, other.loss) or _layout(self) != _layout(other):
            raise ValueError("censuses add only with the same sites, tau and loss")
        probe = (int(self.probe, 16) + int(other.probe, 16)) % 2**64
        sites = [_together(a, b, self.tau) for a, b in zip(self.sites, other.sites, strict=True)]
        return Census(sites, self.tau, self.loss, f"{probe:016x}")

    def table(self) -> str:
        """A line a site, as text."""
        header = ("site", "kind", "units", "N", "silent", "dead", "dormant", "rate")
        rows = [
            (
                site.name,
                site.kind,
                str(site.units),
                str(site.samples),
                str(int(site.silent.sum())),
                "unknown" if site.dead is None else str(int(site.dead.sum())),
                str(int(site.dormant.sum())),
                f"{float(site.rate.mean()):.3f}",
            )
            for site in self.sites
        ]
        return text.table([header, *rows], left=2)

    def __str__(self) -> str:
        return self.table()

    def since(self, earlier: Census, *, other_probe: bool = False) -> dict[str, Changes]:
        """Units that died (fire no more) and revived (fire again) since ``earlier``, by site name.

        Args:
            earlier: a census of the same network.
            other_probe: compare although the data differ, so that a change may be the data's.

        Raises:
            ValueError: the data differ, or the sites do.
        """
        if self.probe != earlier.probe and not other_probe:
            raise ValueError(
                f"the censuses saw different data (probe {self.probe}, earlier {earlier.probe}); count on the same, "
                "or pass other_probe=True and read changes with care"
            )
        if _layout(self) != _layout(earlier):
            raise ValueError(f"the censuses have different sites: {_layout(self)} and earlier {_layout(earlier)}")
        return {
            now.name: Changes(died=now.silent & ~then.silent, revived=then.silent & ~now.silent)
            for now, then in zip(self.sites, earlier.sites, strict=True)
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; NaN and infinities are the strings ``nan``, ``inf`` and ``-inf``."""
        return {
            "format": _FORMAT,
            "tau": self.tau,
            "loss": self.loss,
            "probe": self.probe,
            "sites": [{f.name: _plain(getattr(site, f.name)) for f in fields(Site)} for site in self.sites],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Census:
        """The census that ``to_dict`` gave.

        Raises:
            ValueError: a newer version made it, or it is no census.
        """
        if content.get("format", _FORMAT + 1) > _FORMAT:
            raise ValueError(
                f"this census has format {content.get('format')}, and this undying reads up to {_FORMAT}; upgrade undying"
            )
        sites = [
            Site(**{f.name: _tensor(site[f.name], _DTYPES.get(f.name)) for f in fields(Site)})
            for site in content["sites"]
        ]
        return cls(sites, content["tau"], content["loss"], content["probe"])

    def save(self, path: str | Path) -> None:
        """Write JSON, beside and renamed, so that ``path`` holds the old census or the new one."""
        write_text(Path(path), json.dumps(self.to_dict(), allow_nan=False))

    @classmethod
    def load(cls, path: str | Path) -> Census:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is no census, is damaged, or was written by a newer version.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} does not hold a census: {error!r}") from None


@dataclass(frozen=True)
class Changes:
    """Units of one site that changed between two censuses: bool tensors over units."""

    died: Tensor
    revived: Tensor


_FORMAT = 1
_DTYPES = {
    "fired": torch.int64,
    "nonfinite": torch.int64,
    "peak": torch.float64,
    "mean_abs": torch.float64,
    "zero": torch.float64,
    "score": torch.float64,
    "silent": torch.bool,
    "dead": torch.bool,
    "dormant": torch.bool,
}


def _layout(census: Census) -> list[tuple[str, int]]:
    return [(site.name, site.units) for site in census.sites]


def _together(a: Site, b: Site, tau: float) -> Site:
    """One site on two data sets. Silent on both is silent; then dead on both is dead."""
    samples = a.samples + b.samples
    mean_abs = (a.mean_abs * a.samples + b.mean_abs * b.samples) / samples
    score = _score(mean_abs)
    return replace(
        a,
        samples=samples,
        fired=a.fired + b.fired,
        nonfinite=a.nonfinite + b.nonfinite,
        peak=torch.maximum(a.peak, b.peak),
        mean_abs=mean_abs,
        zero=(a.zero * a.samples + b.zero * b.samples) / samples,
        score=score,
        silent=a.silent & b.silent,
        dead=None if a.dead is None or b.dead is None else a.dead & b.dead,
        dormant=score <= tau,
    )


def _score(mean_abs: Tensor) -> Tensor:
    """Sokar et al. 2023, eq. 1; 0 for every unit of a site whose outputs are all 0."""
    mean = mean_abs.mean()
    return mean_abs / mean if mean != 0 else torch.zeros_like(mean_abs)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [v if not isinstance(v, float) or abs(v) < float("inf") else str(v) for v in value.tolist()]
    return value


def _tensor(value: Any, dtype: torch.dtype | None) -> Any:
    if dtype is None or value is None:
        return value
    return torch.tensor([float(v) if isinstance(v, str) else v for v in value], dtype=dtype)


def census(
    model: nn.Module,
    data: Iterable[Any],
    *,
    tau: float = 0.025,
    gradients: bool = False,
    loss: Callable[[Any, Any], Tensor] | None = None,
    axes: Mapping[str, int] | None = None,
    device: torch.device | str | None = None,
) -> Census:
    """Run ``model`` in eval mode over ``data`` and count, for each unit of each activation call, how it fires.

    Args:
        model: left as it was: parameters and their ``grad``, buffers, training flags, hooks and random number
            generators.
        data: batches, each a tensor, a tuple ``(input, target, ...)`` or a dict of keyword arguments. One tensor
            or one dict is taken as a single batch. The result does not depend on batch size or order.
        tau: dormancy threshold, at least 0 (Sokar et al. 2023, arXiv:2302.12902).
        gradients: also run the backward pass of ``loss``, to tell dead units from silent ones.
        loss: ``loss(output, target)`` giving a scalar; for a dict batch ``target`` is the dict. Default: cross
            entropy for integer targets, mean squared error for others.
        axes: unit axis by site name, where the producer of a tensor does not decide it.
        device: where batches are moved; default: the device of the first parameter.

    Activations are found as modules (torch's, SUGAR, BAReLU, B-SiLU, NeLU) and as calls of the functions that compute
    the same (``F.relu``, ``x.relu_()``), which are named after the calling module: ``block.relu``.

    Returns:
        a :class:`Census`.

    Raises:
        ValueError: no data, no activation called, an ambiguous unit axis, or no loss to be had.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> print(undying.census(net, torch.rand(32, 4)))
    site  kind  units   N  silent  dead  dormant   rate
    1     ReLU      8  32       8     8        8  0.000
    """
    if not tau >= 0:
        raise ValueError(f"tau must be at least 0, not {tau!r}")
    if loss is not None and not gradients:
        raise ValueError("loss is only used with gradients=True")
    place = torch.device(device) if device is not None else device_of(model)
    counter = Counter(model, axes or {}, gradients)
    with contextlib.ExitStack() as stack:
        stack.enter_context(untouched(model))
        stack.enter_context(counter.attached())
        model.eval()
        stack.enter_context(torch.set_grad_enabled(gradients))
        fingerprint = Fingerprint()
        batches = 0
        for batch in [data] if isinstance(data, (Tensor, Mapping)) else data:
            counter.start_batch()
            batch = _moved(batch, place)
            fingerprint.add(batch)
            args, kwargs, target = _unpacked(batch)
            with counter:
                output = model(*args, **kwargs)
            if gradients:
                loss = loss or _default_loss(target)
                _backward(loss(output, target), model, counter.leaves)
            batches += 1
    if batches == 0:
        raise ValueError("data gave no batch")
    if not counter.counts:
        raise ValueError(f"{type(model).__name__} called no activation that is known on this data")
    name = None if loss is None else getattr(loss, "__name__", type(loss).__name__)
    return Census([_site(count, tau) for count in counter.counts.values()], tau, name, fingerprint.read())


def _site(counts: SiteCounts, tau: float) -> Site:
    if counts.samples == 0:
        raise ValueError(f"site {counts.name!r} saw no values: every batch was empty")
    fired, peak = counts.fired.cpu(), counts.peak.detach().cpu().double()
    mean_abs = counts.sum_abs.detach().cpu() / counts.samples
    score = _score(mean_abs)
    silent = (fired == 0) & (peak <= 0)  # the second is False for a NaN, which is not > 0 either
    if counts.gradients:
        dead = silent & (torch.as_tensor(counts.gradient).cpu() == 0)
    else:
        dead = silent.clone() if issubclass(counts.kind, _FLAT) else None
    return Site(
        name=counts.name,
        kind=counts.kind.__name__,
        units=counts.units,
        samples=counts.samples,
        fired=fired,
        nonfinite=counts.nonfinite.cpu(),
        peak=peak,
        mean_abs=mean_abs,
        zero=counts.zeros.cpu().double() / counts.samples,
        score=score,
        silent=silent,
        dead=dead,
        dormant=score <= tau,
    )


def _backward(value: Tensor, model: nn.Module, leaves: list[Tensor]) -> None:
    """Send the gradient of ``value`` past the hooks without touching any parameter's ``grad``."""
    if not isinstance(value, Tensor) or value.dim() != 0:
        raise ValueError(f"loss must give a 0-dimensional tensor, not {value!r}")
    torch.autograd.grad(value, [*(p for p in model.parameters() if p.requires_grad), *leaves], allow_unused=True)


def _default_loss(target: Any) -> Callable[[Any, Any], Tensor]:
    if not isinstance(target, Tensor):
        raise ValueError("gradients=True needs batches of (input, target), or loss=")
    return F.mse_loss if target.is_floating_point() else F.cross_entropy


def _unpacked(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """(args, kwargs, target) for the model and the loss."""
    if isinstance(batch, Mapping):
        return (), dict(batch), batch
    if isinstance(batch, (tuple, list)):
        return (batch[0],), {}, batch[1] if len(batch) > 1 else None
    return (batch,), {}, None


def _moved(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, Tensor):
        return value if device is None else value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(v, device) for key, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(v, device) for v in value)
    return value
