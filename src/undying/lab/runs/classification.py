"""Train one run and measure it, epoch by epoch. Knows nothing of where the numbers go."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from undying.census.census import census
from undying.census.results import Census
from undying.lab import models
from undying.lab.checkpoints import Checkpoint, random_state, restore_random, seed_everything
from undying.lab.data.dataset import Dataset
from undying.lab.execution import Execution
from undying.lab.optimizers import build_optimizer, lr_factor
from undying.lab.process_group import SingleProcess
from undying.lab.runs.batches import Batches, dataset_of
from undying.lab.runs.captured import Captured
from undying.lab.runs.kind import Epoch, Kind, Lines
from undying.lab.runs.lines import treatment_metrics, unit_metrics, weights_sha256
from undying.lab.runs.start import Start, check_fresh, start_of
from undying.lab.settings import RunConfig
from undying.lab.tasks import Classification, Task, build_task, describe, is_own, measured, metrics_of, probe_of, scalar
from undying.lab.treatments import build_treatment
from undying.statistics.metric import Metric

PROBE = 2048
"""Units are counted on the first so many training samples, the same for every run."""

_TRIAL = 16  # samples on which a treatment is tried before any run
_NORMS_EVERY = 4  # steps; 20 for a network of a million parameters: each norm reads all of them several times
_METRICS = ("train_loss", "train_accuracy", "gradient_norm", "update_norm")


def train(
    config: RunConfig,
    execution: Execution | None = None,
    checkpoint: Checkpoint | None = None,
    *,
    group: SingleProcess | None = None,
) -> Iterator[Epoch]:
    """Train as ``config`` says. A loss that stops being finite ends the run with a last, diverged epoch.

    With a checkpoint that holds a state the run goes on from there; the epochs before it do not come again. With
    several devices it trains in as many processes, of which each calls this with its ``group``.
    """
    execution = execution or Execution()
    if execution.devices > 1:
        from undying.lab.distributed import launch

        yield from launch(functools.partial(train, config, checkpoint=checkpoint), execution)
        return
    group = group or SingleProcess()
    run = SingleRun(config, execution, group)
    state = checkpoint.read() if checkpoint is not None else None
    start = run.start() if state is None and group.first else None
    run.begin(PROBE)
    try:
        if state is not None:
            run.load(state)
        for epoch in range(run.epoch, config.epochs + 1):
            run.epoch = epoch
            started = time.perf_counter() - run.seconds
            steps = run.train(started, checkpoint if group.first else None) if epoch > 0 else {}
            done = run.measured_epoch(steps, started, start if epoch == 0 else None)
            yield done
            if done.diverged:
                return
    finally:
        run.close()


def build_model(config: RunConfig, dataset: Dataset) -> nn.Module:
    """The network with its activation: the same initial weights for every activation of a seed."""
    seed_everything(config.seed)
    model = models.build(config.model, dataset.shape, dataset.classes, config.drop_path)
    activation, state = build_treatment(config.activation).build(), random_state()
    outputs = None if dataset.targets == "own" else dataset.classes
    models.put_in(model, config.model, dataset.example, outputs, activation, config.targets)
    restore_random(state)  # a network may draw some of its parameters at its first use
    return model


def _names(config: RunConfig, classes: int) -> Tensor:
    """(tasks, classes): what the classes are called in each task; in the first as in the data. The same for all activations."""
    draws = torch.Generator().manual_seed(config.seed)
    return torch.stack(
        [torch.arange(classes), *(torch.randperm(classes, generator=draws) for _ in range(config.tasks - 1))]
    )


class SingleRun:
    """Everything that changes while a run is trained."""

    def __init__(self, config: RunConfig, execution: Execution, group: SingleProcess) -> None:
        dataset = dataset_of(config, execution)
        self.config = config
        self.group = group
        self.batches = Batches(dataset, config, execution, probe_of(config.task))
        self.task = build_task(config.task, self.batches.dataset)
        self.metrics = metrics_of(self.task, config.task)
        self.names = _names(config, dataset.classes).to(self.batches.device)
        self.device = self.batches.device
        self.model = build_model(config, dataset).to(self.device)
        self.planned = build_treatment(config.activation)
        self.prepared = self.planned.prepare(self.model, self.batches.probe(2))
        if execution.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(config.optimizer, self.parameters, config.lr, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "float16")
        average = get_ema_multi_avg_fn(config.ema)
        self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True) if config.ema else None
        # Hooks, which the census needs, do not fire in a compiled network; the uncompiled one has the same weights.
        self.wrapped = group.wrap(self.model)
        self.forward: Any = torch.compile(self.wrapped) if execution.compile else self.wrapped
        self.captured: Captured | None = None
        if execution.captured and self._may_be_captured():
            self.captured = Captured(self.forward_and_backward, self.model)
        self.every = _NORMS_EVERY if sum(p.numel() for p in self.parameters) <= 1_000_000 else 5 * _NORMS_EVERY
        self.steady = config.schedule == "constant" and not config.warmup
        self.sums = torch.zeros(4, dtype=torch.float32 if self.device.type == "mps" else torch.float64)
        self.sums = self.sums.to(self.device)
        self.norms: list[Tensor] = []
        """Of the current epoch: (gradient and update, parameters) for each step at which norms are taken."""
        self.counted: Census | None = None
        self.epoch = self.step = self.samples = self.normed = 0
        self.seconds = 0.0
        """Of the current epoch, before the run was taken up."""

    def start(self) -> Start:
        """How it starts, before anything is drawn for training."""
        return start_of(self.model, self.planned, self.batches.first(), self.prepared)

    def begin(self, samples: int) -> None:
        """Put the treatment to work, after the start was noted: a part may act before the first step.

        Args:
            samples: on which it looks at units.
        """
        self.treatment = self.planned.start(
            self.wrapped,
            self.optimizer,
            self.batches.probe(samples),
            self.batches.steps * self.config.epochs,
            self.config.seed,
            self.average,
        )

    def close(self) -> None:
        """Have the treatment leave the network alone."""
        self.treatment.close()

    def train(self, started: float, checkpoint: Checkpoint | None) -> dict[str, float | None]:
        """The rest of an epoch. Means over samples (loss, accuracy) and over steps (norms); None where not finite."""
        self.model.train()
        for batch in self.batches.epoch(skip=self.step):
            self.take_step(*batch)
            # Before the next batch is drawn, so that all generators stand at the step's end.
            if checkpoint is not None and checkpoint.due():
                checkpoint.write(self.state(time.perf_counter() - started))
        return self.take_means()

    def take_step(self, x: Tensor, y: Tensor, target: Tensor) -> None:
        """One step of the optimizer, on a batch of all processes."""
        samples = len(y)
        x, y, target = self.group.share(x, y, target)
        if self.config.tasks > 1:
            y = target = self.named(y)
        self.set_lr()
        with self.group.forked_rng(self.config.seed, self.epoch, self.step):
            output, loss = (self.captured or self.forward_and_backward)(x, target)
        self.scaler.unscale_(self.optimizer)
        self.treatment.before_step()
        normed = self.step % self.every == 0
        if normed or self.config.clip:
            norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        gradients = self._norms_of([p.grad for p in self.parameters]) if normed and self._keeps_norms else None
        if self.config.clip:
            clip_grads_with_norm_(self.parameters, self.config.clip, norm)
        before = self._weights() if normed else None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.treatment.after_step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        right = (output.argmax(1) == y).sum() if self.has_classes else torch.zeros_like(loss)
        self.sums[:2] += self.group.total(torch.stack([loss * len(y), right]))
        if before is not None:
            change = self._weights() - before
            self.sums[2:] += self._finite_if_scaled(torch.stack([norm, change.norm()]))
            if gradients is not None:
                updates = self._norms_of(change.split([p.numel() for p in self.parameters]))
                self.norms.append(torch.stack([gradients, updates]))
        self.samples += samples
        self.normed += normed
        self.step += 1

    def forward_and_backward(self, x: Tensor, target: Tensor) -> tuple[Any, Tensor]:
        """Outputs, as the network gives them, and loss; the gradients are those of the parameters."""
        self.optimizer.zero_grad()
        with self._precision():
            output = self.forward(x)
            loss = self.loss_of(output, target)
        self.scaler.scale(self.group.weighted(loss)).backward()
        return output, loss.detach()

    def take_means(self) -> dict[str, float | None]:
        """Of the epoch, and begin anew."""
        means = (self.sums.cpu() / torch.tensor([self.samples, self.samples, self.normed, self.normed])).tolist()
        self.sums.zero_()
        self.step = self.samples = self.normed = 0
        self.seconds = 0.0
        known = dict(zip(_METRICS, means, strict=True))
        if not self.has_classes:
            del known["train_accuracy"]
        return {name: value if math.isfinite(value) else None for name, value in known.items()}

    def measured_epoch(self, steps: dict[str, float | None], started: float, start: Start | None) -> Epoch:
        """The end of an epoch: the network is measured and its units are counted.

        Args:
            steps: means over the epoch's steps; none before training.
            started: when the epoch began, by ``time.perf_counter``.
            start: how the run starts, of epoch 0.
        """
        config, group, epoch = self.config, self.group, self.epoch
        trained = time.perf_counter() - started
        with group.forked_rng(config.seed, epoch):
            measured = self.measure() if group.first and self.is_measured() else {}
            diverged = group.agreed(None in steps.values() or None in measured.values())
            counted = self.count() if group.first and not diverged and self.is_counted() else None
        self.counted = counted or self.counted
        last = diverged or epoch == config.epochs
        metrics = {
            "epoch": epoch,
            **steps,
            **(dict.fromkeys(measured) if diverged else measured),
            **(unit_metrics(counted) if counted else {}),
            **treatment_metrics(self.treatment, last=last),
            **({"weights_sha256": weights_sha256(self.model)} if last else {}),
            **({"norms": self.take_norms()} if "norms" in config.keep and epoch > 0 else {}),
            "train_seconds": trained,
            "seconds": time.perf_counter() - started,
        }
        kept = "weights" in config.keep and epoch == config.epochs and not diverged
        return Epoch(metrics, self.counted, diverged, self.measured.state_dict() if kept else None, start)

    def take_norms(self) -> dict[str, dict[str, list[float | None]]]:
        """Of the epoch, by parameter: ``gradient`` and ``update``, an entry a step; None where not finite."""
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        steps = [step.tolist() for step in self.norms]
        self.norms = []
        return {
            name: {
                kind: [step[row][i] if math.isfinite(step[row][i]) else None for step in steps]
                for row, kind in enumerate(("gradient", "update"))
            }
            for i, name in enumerate(names)
        }

    def measure(self) -> dict[str, float | None]:
        """Loss and scores on the test data, and on what is held out for validation; None where the loss is not finite."""
        parts = {"test": self.batches.test(), "validation": self.batches.validation()}
        measured: dict[str, float | None] = {}
        for name, part in parts.items():
            if part is not None:
                with self._precision():
                    named = ((x, self.named(y)) for x, y in part)
                    values = evaluate(self.measured, named, self.task, self.metrics)
                finite = math.isfinite(values["loss"])
                measured |= {f"{name}_{key}": value if finite else None for key, value in values.items()}
        return measured

    def is_measured(self) -> bool:
        return self.epoch % self.config.measure_every == 0 or self.epoch == self.config.epochs

    def is_counted(self) -> bool:
        """Whenever the network is measured, where that costs little or is asked to be seldom: the probe is read forward
        and backward, as training does. Else after the epochs 0, 1, 2, 4, 8, ... and the last."""
        cheap = len(self.batches.dataset.x_train) >= 20 * PROBE or self.config.measure_every > 1
        return self.is_measured() and (cheap or self.epoch & (self.epoch - 1) == 0 or self.epoch == self.config.epochs)

    def count(self) -> Census:
        probe = [(x, self.named(y)) for x, y in self.batches.probe(PROBE)]
        return census(self.measured, probe, gradients=True, loss=self.task.loss)

    @property
    def measured(self) -> nn.Module:
        """The network itself, or the average of its weights."""
        return self.model if self.average is None else self.average.module

    def state(self, seconds: float) -> dict[str, Any]:
        """Tensors and plain data from which the run goes on, to the same numbers."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "samples": self.samples,
            "normed": self.normed,
            "seconds": seconds,
            "sums": self.sums,
            "norms": self.norms,
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "treatment": self.treatment.state_dict(),
            "batches": self.batches.state(),
            "random": random_state(),
            "census": self.counted.to_dict() if self.counted else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
        for name in ("epoch", "step", "samples", "normed", "seconds"):
            setattr(self, name, state[name])
        self.sums.copy_(state["sums"])
        self.norms = state.get("norms", [])  # a checkpoint of before has none
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if "treatment" in state:  # a checkpoint of before has none
            self.treatment.load_state_dict(state["treatment"])
        self.batches.load(state["batches"])
        restore_random(state["random"])
        self.counted = Census.from_dict(state["census"]) if state["census"] else None

    def named(self, y: Tensor) -> Tensor:
        """Labels by the names that the classes have in this epoch's task; epoch 0 is before the first."""
        if self.config.tasks == 1:
            return y
        named: Tensor = self.names[max(self.epoch - 1, 0) * self.config.tasks // self.config.epochs][y]
        return named

    @property
    def has_classes(self) -> bool:
        return self.batches.dataset.targets == "classes"

    def loss_of(self, output: Any, target: Tensor) -> Tensor:
        if self.config.label_smoothing:
            return F.cross_entropy(output, target, label_smoothing=self.config.label_smoothing)
        return scalar(self.task.loss(output, target))

    def set_lr(self) -> None:
        if self.steady:
            return
        steps = self.batches.steps
        factor = lr_factor(self.config, (self.epoch - 1) * steps + self.step, steps, self.config.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor

    def _may_be_captured(self) -> bool:
        """Whether a step does the same whenever it is called: what runs in Python would be left out of a replay."""
        own = models.own_function(self.config.model) is not None or is_own(self.config.task)
        return not (own or self.planned.parts or self.config.drop_path or self.config.amp != "none")

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        name = self.config.amp
        if name == "none":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.float16 if name == "float16" else torch.bfloat16)

    @property
    def _keeps_norms(self) -> bool:
        return "norms" in self.config.keep

    def _norms_of(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """L2 norm of each; 0 where there is none."""
        zero = torch.zeros((), device=self.device)
        return torch.stack([zero if t is None else t.norm() for t in tensors]).float().cpu()

    def _weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def _finite_if_scaled(self, norms: Tensor) -> Tensor:
        # Under a loss scale an infinite gradient is no divergence: the step is left out and the scale lowered.
        return norms.nan_to_num(0, 0, 0) if self.scaler.is_enabled() else norms


@torch.no_grad()
def evaluate(
    model: nn.Module,
    parts: Iterable[tuple[Tensor, Tensor]],
    task: Task | None = None,
    metrics: Sequence[Metric] | None = None,
) -> dict[str, float]:
    """``loss`` and each metric of a task, by default a classification, in eval mode, over all (samples, targets) at once.

    Raises:
        UndyingError: the loss is no scalar, or a metric no such number as it says though the loss is finite.
    """
    task = task or Classification()
    model.eval()
    outputs, targets = (torch.cat(t) for t in zip(*((model(x).float(), y) for x, y in parts), strict=True))
    loss = float(scalar(task.loss(outputs, targets)))
    return {
        "loss": loss,
        **{m.name: measured(m, outputs, targets, math.isfinite(loss)) for m in metrics or task.metrics()},
    }


class ClassificationKind(Kind[RunConfig]):
    """Runs of ``undying compare``."""

    config = RunConfig

    def __init__(self) -> None:
        self._fresh: set[Callable[..., nn.Module]] = set()
        """The users' functions that were looked at in this process."""

    def check(self, config: RunConfig, execution: Execution) -> None:
        """Refuses a network of the user's that keeps something from one run to the next."""
        function = models.own_function(config.model)
        if function is None or function in self._fresh:
            return
        dataset = dataset_of(config, execution)
        samples = dataset.standardised(dataset.x_train[:2])
        check_fresh(lambda: build_model(config, dataset), samples, f"model {config.model!r}")
        self._fresh.add(function)

    def rehearse(self, config: RunConfig, execution: Execution) -> None:
        build_treatment(config.activation).check(averaged=config.ema > 0)
        run = SingleRun(config, execution, SingleProcess())
        run.begin(_TRIAL)
        run.close()

    def train(self, config: RunConfig, execution: Execution, checkpoint: Checkpoint | None) -> Iterator[Epoch]:
        return train(config, execution, checkpoint)

    def describe(self, config: RunConfig, execution: Execution) -> dict[str, Any]:
        dataset = dataset_of(config, execution)
        classes = {"per_class": dataset.per_class(), "names": dataset.names} if dataset.targets == "classes" else {}
        return {**describe(config.task, dataset), **classes}

    def values(self, config: RunConfig, lines: Lines, chance: float) -> dict[str, float]:
        last = lines[-1]
        # A diverged network no longer tells classes apart: it counts as guessing.
        diverged = last.get("test_accuracy") is None
        return {
            "accuracy": chance if diverged else last["test_accuracy"],
            "validation": chance if diverged else last.get("validation_accuracy", math.nan),
        }


KIND = ClassificationKind()
