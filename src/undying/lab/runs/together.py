"""Train runs that differ in their seed alone in one go, each to the bits that it has when it is trained alone.

Everything of a run is its own: network, initial weights, order of the data, draws, measurements, census, checkpoint. Shared
is the work of a step (``undying.lab.runs.stack``): in small networks most of its time goes into calling operations.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from undying.lab.checkpoints import Checkpoint, random_state
from undying.lab.execution import Execution
from undying.lab.optimizers import build_optimizer
from undying.lab.process_group import SingleProcess
from undying.lab.runs.classification import PROBE, SingleRun
from undying.lab.runs.kind import AloneError, Epoch
from undying.lab.runs.stack import Stack, layers_of
from undying.lab.settings import RunConfig
from undying.lab.tasks import is_own
from undying.lab.treatments import build_treatment


def may_train_together(config: RunConfig, execution: Execution) -> bool:
    """Whether everything but the network allows it; no user's code is asked."""
    return (
        execution.device == "cpu"
        and execution.devices == 1
        and not execution.compile
        and not execution.channels_last
        and config.amp == "none"
        and not (config.ema or config.mixup or config.cutmix or config.drop_path)
        and "norms" not in config.keep
        and not is_own(config.task)
        and not build_treatment(config.activation).parts
    )


def train_together(
    configs: Sequence[RunConfig], execution: Execution, checkpoints: Sequence[Checkpoint] | None
) -> Iterator[tuple[int, Epoch]]:
    """The epochs of each run from its first on, with the run's place in ``configs``.

    Args:
        configs: of runs that differ in their seed alone, and for which ``may_train_together``.
        execution: how to train.
        checkpoints: of each; their states, with which ``train`` goes on, are written and not read. None: none are written.

    Raises:
        AloneError: before the first epoch: their network cannot be stacked, or a step with the stack was not that of each
            run alone, bit by bit.
    """
    runs: list[SingleRun] = []
    starts, randoms = [], []
    try:
        for config in configs:
            run = SingleRun(config, execution, SingleProcess())
            if layers_of(run.model) is None:
                raise AloneError("the network is no plain chain of linear layers and activations")
            starts.append(run.start())
            randoms.append(random_state())  # as they stand in all of its training, which does not draw from them
            run.begin(PROBE)
            runs.append(run)
        if not _equals_alone(runs):
            raise AloneError("a step of all at once is not bit by bit that of each")
        group, left = _Group(runs), dict(enumerate(runs))
        for index, run in enumerate(runs):
            done = run.measured_epoch({}, time.perf_counter(), starts[index])
            if done.diverged:
                del left[index]
            yield index, _noted(done, len(runs))
        for epoch in range(1, configs[0].epochs + 1):
            if not left:
                return
            started = time.perf_counter()
            for _ in group.train(epoch):
                share = (time.perf_counter() - started) / len(runs)
                for index, checkpoint in enumerate(checkpoints or ()):
                    if index in left and checkpoint.due():
                        checkpoint.write(group.state(index, share, randoms[index]))
            share = (time.perf_counter() - started) / len(runs)
            for index, run in list(left.items()):
                began = time.perf_counter() - share
                done = run.measured_epoch(group.settle(index).take_means(), began, None)
                if done.diverged:
                    del left[index]
                yield index, _noted(done, len(runs))
            group.begin_epoch()
    finally:
        for run in runs:
            run.close()


def _noted(epoch: Epoch, together: int) -> Epoch:
    """Its seconds are a share of what so many runs took."""
    return replace(epoch, metrics={**epoch.metrics, "together": together})


class _Group:
    """Runs that are at the same step. One that has diverged stays in the stack, where it disturbs no other."""

    def __init__(self, runs: Sequence[SingleRun]) -> None:
        self.runs = runs
        self.stack = Stack([run.model for run in runs])
        config = runs[0].config
        self.optimizer = build_optimizer(config.optimizer, self.stack.parameters, config.lr, config)
        self.sums = torch.stack([run.sums for run in runs])

    def train(self, epoch: int) -> Iterator[None]:
        """An epoch of all, a step each."""
        for run in self.runs:
            run.epoch = epoch
        for batches in zip(*(run.batches.epoch() for run in self.runs), strict=True):
            self.take_step(*(torch.stack(parts) for parts in zip(*batches, strict=True)))
            yield

    def take_step(self, x: Tensor, y: Tensor, target: Tensor) -> None:
        """What ``SingleRun.take_step`` does: (runs, samples, ...) each."""
        first, clip = self.runs[0], self.runs[0].config.clip
        if first.config.tasks > 1:
            y = target = torch.stack([run.named(labels) for run, labels in zip(self.runs, y.unbind(), strict=True)])
        first.set_lr()
        self.optimizer.param_groups[0]["lr"] = first.optimizer.param_groups[0]["lr"]
        self.optimizer.zero_grad()
        outputs = self.stack(x)
        own = zip(self.runs, outputs.unbind(), target.unbind(), strict=True)
        losses = torch.stack([run.loss_of(output, wanted) for run, output, wanted in own])
        losses.sum().backward()
        normed = first.step % first.every == 0
        if normed or clip:
            gradients = [self.stack.gradients(index) for index in range(len(self.runs))]
            norms = torch.stack([get_total_norm(parts) for parts in gradients])
            if clip:
                for norm, parts in zip(norms, gradients, strict=True):
                    scale = torch.clamp(clip / (norm + 1e-6), max=1.0)  # as clip_grads_with_norm_
                    for part in parts:
                        part.mul_(scale)
        before = self._weights() if normed else None
        self.optimizer.step()
        right = (outputs.argmax(-1) == y).sum(1) if first.has_classes else torch.zeros_like(losses)
        self.sums[:, :2] += torch.stack([losses.detach() * y.shape[1], right], 1)
        if before is not None:
            changes = torch.stack([change.norm() for change in self._weights() - before])
            self.sums[:, 2:] += torch.stack([norms, changes], 1)
        for run in self.runs:
            run.treatment.after_step()
            run.samples += y.shape[1]
            run.normed += normed
            run.step += 1

    def begin_epoch(self) -> None:
        """After all have settled."""
        self.sums.zero_()
        for run in self.runs:  # also those that have diverged
            run.step = run.samples = run.normed = 0

    def settle(self, index: int) -> SingleRun:
        """A run with its weights and sums as they are now."""
        run = self.runs[index]
        self.stack.write_back(index)
        run.sums.copy_(self.sums[index])
        return run

    def state(self, index: int, seconds: float, random: dict[str, Any]) -> dict[str, Any]:
        """Of a run, from which it goes on alone."""
        run = self.settle(index)
        self.stack.write_back_state(index, self.optimizer, run.optimizer)
        return {**run.state(seconds), "random": random}

    @torch.no_grad()
    def _weights(self) -> Tensor:
        """(runs, weights)."""
        return torch.cat([weight.all().flatten(1) for weight in self.stack.weights], 1)


def _equals_alone(runs: Sequence[SingleRun]) -> bool:
    """Whether steps on the first batch and on one of the size of the last are bit by bit those of each run alone."""
    alone = [_scratch(run) for run in runs]
    group = _Group([_scratch(run) for run in runs])
    batches = [run.batches.first() for run in runs]
    for size in (len(batches[0][1]), runs[0].batches.last_size):
        cut = [tuple(part[:size] for part in batch) for batch in batches]
        for run, batch in zip(alone, cut, strict=True):
            run.take_step(*batch)
        group.take_step(*(torch.stack(parts) for parts in zip(*cut, strict=True)))
        for index, run in enumerate(alone):
            own = group.settle(index)
            pairs = [
                *zip(run.model.parameters(), own.model.parameters(), strict=True),
                *zip(
                    (p.grad for p in run.model.parameters() if p.grad is not None),
                    group.stack.gradients(index),
                    strict=True,
                ),
                (run.sums, own.sums),
            ]
            if not all(torch.equal(one.view(torch.uint8), other.view(torch.uint8)) for one, other in pairs):  # NaN too
                return False
    return True


def _scratch(run: SingleRun) -> SingleRun:
    """A copy for steps of no account, with the data of the run itself."""
    copied = copy.copy(run)
    copied.model = copied.wrapped = copied.forward = copy.deepcopy(run.model)
    copied.parameters = list(copied.model.parameters())
    copied.optimizer = build_optimizer(run.config.optimizer, copied.parameters, run.config.lr, run.config)
    copied.treatment = copy.copy(run.treatment)
    copied.captured = None
    copied.sums = run.sums.clone()
    copied.epoch = 1
    return copied
