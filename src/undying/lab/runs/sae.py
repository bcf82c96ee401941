"""Train sparse autoencoders of one arm, one for each strength of its sparsity, and compare them at one L0."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying.census.census import census
from undying.census.results import Census
from undying.lab.autoencoders.dead import auxk_loss, ghost_loss
from undying.lab.autoencoders.model import Arm, SparseAutoencoder, TopK
from undying.lab.checkpoints import Checkpoint, seed_everything
from undying.lab.data.activations import activations
from undying.lab.execution import Execution
from undying.lab.optimizers import build_optimizer
from undying.lab.recipe import Recipe
from undying.lab.runs.kind import Epoch, Kind, Lines
from undying.lab.runs.lines import sha256, unit_metrics, weights_sha256
from undying.lab.runs.start import start_of
from undying.lab.settings import AnyRun
from undying.treat.policies.dead_latents import DeadLatents
from undying.treat.policies.recycler import Recycler

_DECAY = 0.2
"""Share of the steps, the last ones, over which the learning rate falls to 0."""
_PROBE = 2048
"""Training samples by which latents are planted dead, and from which dead ones are resampled."""
_DEPTH = 1.5
"""Of the bias of a planted latent, in units of its largest pre-activation on the probe."""
_BATCH = 2048
"""Of the test."""
_DEAD = {"ghost": ghost_loss, "auxk": auxk_loss}
SHARES = ("explained", "dead", "silent")
"""What is told of an autoencoder at one L0, beside it."""


@dataclass(frozen=True, kw_only=True)
class SaeRun(AnyRun):
    """Autoencoders of one arm and seed. An epoch is one of them, trained from the start: all have the same first weights and
    see the same samples in the same order; what differs is how sparse they are made."""

    kind: ClassVar[str] = "sae"
    model: str = "sae"
    optimizer: str = "adam"
    data_sha256: str = ""
    latents: int
    steps: int
    """Of each autoencoder."""
    penalties: tuple[str, ...]
    """Weights of the L1 penalty beside the mean squared error, one for each autoencoder."""
    keeps: tuple[str, ...]
    """With TopK in their place: how many latents a sample keeps."""
    planted: float
    """Share of the latents, the first ones, that begin dead: with a bias at which no sample of the probe wakes them."""
    window: int
    """Samples in which a latent that fires for none is dead, while it trains and at the end."""
    l0: int = 48
    """Where arms are compared: latents above 0 a sample, on the test data. Nothing that is trained depends on it."""


def train(config: SaeRun, execution: Execution | None = None) -> Iterator[Epoch]:
    """Train as ``config`` says. A loss that stops being finite ends the run with a last, diverged epoch.

    Of each autoencoder a line says how many latents a test sample has above 0 (``l0``), which share of the test data's variance it
    explains, and how many latents are ``dead``: silent on all test samples, and on the last ``window`` training samples.
    """
    run = _Run(config, execution or Execution())
    first, _ = run.built(0)
    yield Epoch({"epoch": 0, "seconds": 0.0}, None, start=start_of(first, run.arm.treatment, [run.batch(0)]))
    counted, weights = None, ""
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        sae, pressure = run.built(number - 1)
        since = run.train(sae, pressure)
        metrics: dict[str, Any] = {"epoch": number, "pressure": pressure}
        if since is None:
            metrics |= {"test_explained": None}
        else:
            counted, measured = run.measured(sae, since)
            metrics |= measured
        weights = sha256([weights, weights_sha256(sae)])
        metrics |= {"weights_sha256": weights, "seconds": time.perf_counter() - started}
        yield Epoch(metrics, counted, since is None)
        if since is None:
            return


class _Run:
    """The arm, its data, and one training after the other."""

    def __init__(self, config: SaeRun, execution: Execution) -> None:
        self.config, self.arm = config, Arm.of(config.activation)
        self.device = torch.device(execution.device)
        dataset = activations(config.data, execution.data_root)
        self.rows, self.test = dataset.x_train, dataset.x_test
        numbers = self.rows.double()
        self.mean = torch.zeros(()) if self.arm.extra == "raw" else numbers.mean(0).float()
        # One scale for all columns: their variances are what is to be explained.
        self.scale = float(numbers.var(0).mean().sqrt())
        order = torch.Generator().manual_seed(config.seed)
        many = config.steps * config.batch_size
        passes = -(-many // len(self.rows))
        self.order = torch.cat([torch.randperm(len(self.rows), generator=order) for _ in range(passes)])[:many]

    def given(self, rows: Tensor) -> Tensor:
        """As an autoencoder gets them: with a variance of 1 a column on average, and centred but for ``raw``."""
        return ((rows.float() - self.mean) / self.scale).to(self.device)

    def batch(self, step: int) -> Tensor:
        return self.given(self.rows[self.order[step * self.config.batch_size : (step + 1) * self.config.batch_size]])

    def built(self, number: int) -> tuple[SparseAutoencoder, float]:
        """(an untrained autoencoder, weight of its penalty or latents it keeps)."""
        seed_everything(self.config.seed)
        pressure = float((self.config.keeps if self.arm.topk else self.config.penalties)[number])
        act = TopK(int(pressure)) if self.arm.topk else self.arm.treatment.build()
        sae = SparseAutoencoder(self.rows.shape[1], self.config.latents, act).to(self.device)
        self._plant(sae)
        return sae, pressure

    @torch.no_grad()
    def _plant(self, sae: SparseAutoencoder) -> None:
        """Half as far again below 0 as would do to be silent on the probe."""
        many = round(self.config.planted * self.config.latents)
        sae.encoder.bias[:many] = -_DEPTH * sae.encoder(self.probe)[:, :many].amax(0)

    @property
    def probe(self) -> Tensor:
        """Training samples, the first in the order of training."""
        return self.given(self.rows[self.order[:_PROBE]])

    def train(self, sae: SparseAutoencoder, pressure: float) -> Tensor | None:
        """Returns int64 over latents: training samples since each last fired; None: the loss ceased to be finite."""
        config, arm = self.config, self.arm
        optimizer = build_optimizer(config.optimizer, list(sae.parameters()), config.lr, Recipe())
        probe = [self.probe]
        treatment = arm.treatment.start(sae, optimizer, probe, config.steps, config.seed)
        recycler = None
        if arm.extra == "resample":
            draws = torch.Generator().manual_seed(config.seed)
            recycler = Recycler(sae, optimizer, DeadLatents(config.window), probe=probe, generator=draws)
        since = torch.zeros(config.latents, dtype=torch.int64, device=self.device)
        with _Seen(sae) as seen:
            for step in range(config.steps):
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * min(1.0, (config.steps - step) / (_DECAY * config.steps))
                x = self.batch(step)
                residual = x - sae(x)
                before, latents = seen.before, seen.latents
                error = residual.square().mean()
                loss = error if arm.topk else error + pressure * latents.sum(1).mean()
                if arm.extra in _DEAD and len(dead := (since >= config.window).nonzero().flatten()):
                    loss = loss + _DEAD[arm.extra](sae, before, residual, dead)
                if not math.isfinite(loss.item()):
                    return None
                since = torch.where((latents > 0).any(0), 0, since + len(x))
                optimizer.zero_grad()
                loss.backward()
                treatment.before_step()
                optimizer.step()
                sae.normalize()
                treatment.after_step()
                if recycler is not None:
                    recycler.step()
        treatment.close()
        if recycler is not None:
            recycler.close()
        return since

    def measured(self, sae: SparseAutoencoder, since: Tensor) -> tuple[Census, dict[str, Any]]:
        """What the test samples say of a trained autoencoder."""
        test = [self.given(rows) for rows in self.test.split(_BATCH)]
        squares = [0.0]

        def compared(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            squares[0] += float((args[0] - output).double().square().sum())

        hook = sae.register_forward_hook(compared)
        counted = census(sae, test, outputs="act" if self.arm.topk else ())
        hook.remove()
        site = counted["act"]
        assert site.silent is not None
        everything = torch.cat(test).double()
        variance = float((everything - everything.mean(0)).square().sum())
        return counted, {
            "test_loss": squares[0] / everything.numel(),
            "test_explained": 1 - squares[0] / variance,
            "l0": int(site.fired.sum()) / len(everything),
            "dead": int((site.silent & (since.cpu() >= self.config.window)).sum()),
            **unit_metrics(counted),
        }


class _Seen:
    """Keeps what reached and what left the latents' activation in the last forward pass."""

    before: Tensor
    latents: Tensor

    def __init__(self, sae: SparseAutoencoder) -> None:
        self._hook = sae.act.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        self.before, self.latents = args[0], output

    def __enter__(self) -> _Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


class Sae(Kind[SaeRun]):
    """Scored by explained variance at one L0."""

    config = SaeRun

    def check(self, config: SaeRun, execution: Execution) -> None:
        if not len(config.penalties) == len(config.keeps) == config.epochs:
            raise UndyingError(
                f"an autoencoder an epoch: {config.epochs} epochs need as many penalties and keeps, not "
                f"{len(config.penalties)} and {len(config.keeps)}"
            )

    def is_treated(self, config: SaeRun) -> bool:
        return bool(Arm.of(config.activation).extra)

    def rehearse(self, config: SaeRun, execution: Execution) -> None:
        Arm.of(config.activation)  # the network is always the same, and all arms fit it

    def train(self, config: SaeRun, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution)

    def describe(self, config: SaeRun, execution: Execution) -> dict[str, Any]:
        dataset = activations(config.data, execution.data_root)
        if config.data_sha256 and dataset.sha256 != config.data_sha256:
            raise UndyingError(f"data {config.data} are others than those that the run was made for; begin it again")
        return dataset.describe()

    def values(self, config: SaeRun, lines: Lines, chance: float) -> dict[str, float]:
        found = at_l0(lines, config.latents, config.l0)
        explained = found.pop("explained")
        # A reconstruction that is not finite explains nothing; of its latents nothing is known.
        diverged = lines[-1].get("test_explained", 0.0) is None
        return {"accuracy": 0.0 if diverged else explained, "validation": math.nan, **found}


KIND = Sae()


def points(lines: Lines, latents: int) -> list[dict[str, float]]:
    """Of each trained autoencoder ``l0`` and ``SHARES``, the sparsest first."""
    found = [
        {
            "l0": line["l0"],
            "explained": line["test_explained"],
            "dead": line["dead"] / latents,
            "silent": sum(site["silent"] for site in line["sites"]) / latents,
        }
        for line in lines
        if "l0" in line
    ]
    return sorted(found, key=lambda point: point["l0"])


def at_l0(lines: Lines, latents: int, l0: float) -> dict[str, float]:
    """``SHARES`` at ``l0``: on a line over log L0 between the nearest autoencoder below and above; NaN where either is missing,
    or there was a diverged one.

    >>> lines = [{"l0": l0, "test_explained": e, "dead": 0, "sites": []} for l0, e in ((8, 0.5), (32, 0.9))]
    >>> round(at_l0(lines, 64, 16)["explained"], 6)
    0.7
    """
    known = points(lines, latents)
    below = [point for point in known if 0 < point["l0"] <= l0]
    above = [point for point in known if point["l0"] >= l0]
    if not below or not above or any(line.get("test_explained", 0.0) is None for line in lines):
        return dict.fromkeys(SHARES, math.nan)
    low, high = below[-1], above[0]
    whole = math.log(high["l0"] / low["l0"])
    part = math.log(l0 / low["l0"]) / whole if whole else 0.0
    return {name: low[name] + part * (high[name] - low[name]) for name in SHARES}
