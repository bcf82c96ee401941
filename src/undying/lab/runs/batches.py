"""A run's data on their device: uint8 until a batch is taken, normalized by the training data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying.lab import models, tasks
from undying.lab.augment import ON_BYTES, STANDARDISED
from undying.lab.checkpoints import random_state, restore_random
from undying.lab.data.dataset import Dataset
from undying.lab.execution import Execution
from undying.lab.models.vision import library
from undying.lab.settings import RunConfig


def dataset_of(config: RunConfig, execution: Execution) -> Dataset:
    """The data that ``config`` was made for, before its subset is taken.

    Raises:
        UndyingError: they have changed since.
    """
    models.own_function(config.model)  # first: what its module sets, draws or seeds on import comes before every run
    dataset = tasks.load(config.task, config.data, config.columns, config.image_size, execution.data_root)
    if dataset.sha256 != config.data_sha256:
        raise UndyingError(
            f"data {config.data!r} changed since the comparison began, or are others each time they are read; "
            "run the same command again"
        )
    return dataset


class Batches:
    """Training batches in the order of the run's seed, and the other parts of the data in chunks."""

    def __init__(
        self,
        dataset: Dataset,
        config: RunConfig,
        execution: Execution,
        probe: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        if config.augment and len(dataset.shape) != 3:
            raise UndyingError(f"--augment needs images, samples of (channels, height, width), not {dataset.shape}")
        if ON_BYTES.keys() & config.augment and (
            dataset.x_train.dtype != torch.uint8 or dataset.shape[0] not in (1, 3)
        ):
            raise UndyingError(
                f"--augment {' '.join(ON_BYTES)} needs images as bytes (uint8) of 1 or 3 channels, not "
                f"{dataset.x_train.dtype} of {dataset.shape[0]}"
            )
        if config.subset:
            dataset = dataset.subset(config.subset)
        held: tuple[Tensor, Tensor] | None = None
        if config.validation:
            dataset, *both = dataset.without(config.validation)
            held = (both[0], both[1])
        self.dataset = dataset
        self.device = torch.device(execution.device)
        self._format = torch.channels_last if execution.channels_last else torch.contiguous_format
        self._as_given = dataset.targets == "own"
        self._mean, self._std = (t.to(self.device) for t in dataset.scale)
        self._train = self._moved(dataset.x_train, dataset.y_train)
        self._test = self._moved(dataset.x_test, dataset.y_test)
        self._held = self._moved(*held) if held else None
        self._probe = self._moved(*probe) if probe else None
        self._batch_size = config.batch_size
        self._order = torch.Generator().manual_seed(config.seed)
        self._draws = torch.Generator(self.device).manual_seed(config.seed)
        self._augment = [STANDARDISED[name] for name in config.augment if name in STANDARDISED]
        self._augment_bytes = [ON_BYTES[name] for name in config.augment if name in ON_BYTES]
        self._mix = _mixing(config, dataset.classes)
        batches = self._split(torch.arange(len(dataset.x_train)))
        self.steps, self.last_size = len(batches), len(batches[-1])
        """Batches an epoch, and samples in the last of them."""
        # Small samples go through a network in one piece, larger ones in pieces that fit in memory.
        self._chunk = 2048 if math.prod(dataset.shape) <= 1024 else 256

    def epoch(self, skip: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(x, labels, target) of each batch after the first ``skip``; the target differs from the labels when mixed."""
        self._begun = self._order.get_state()
        x, y = self._train
        for batch in self._split(torch.randperm(len(x), generator=self._order))[skip:]:
            batch = batch.to(self.device)
            images, labels = x[batch], y[batch]
            for augment in self._augment_bytes:
                images = augment(images, self._draws)
            images = self._normalized(images)
            for augment in self._augment:
                images = augment(images, self._draws)
            yield (images, labels, labels) if self._mix is None else self._mix(images, labels)

    def first(self) -> tuple[Tensor, Tensor, Tensor]:
        """What ``epoch`` will give first; it will."""
        order, draws, others = self._order.get_state(), self._draws.get_state(), random_state()
        batch = next(self.epoch())
        self._order.set_state(order)
        self._draws.set_state(draws)
        restore_random(others)
        return batch

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._chunks(*self._test)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]] | None:
        """What is held out; None if nothing is."""
        return self._chunks(*self._held) if self._held else None

    def probe(self, samples: int) -> list[tuple[Tensor, Tensor]]:
        """The first of the task's own probe, where it has one, else of the training samples, as they are."""
        return list(self._chunks(*(part[:samples] for part in self._probe or self._train)))

    def state(self) -> dict[str, Any]:
        """Within an epoch: with the number of batches taken, all that it takes to go on."""
        return {"order": self._begun, "draws": self._draws.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """The next ``epoch(skip)`` goes on where ``state()`` was taken."""
        self._order.set_state(state["order"])
        self._draws.set_state(state["draws"])

    def _split(self, order: Tensor) -> tuple[Tensor, ...]:
        batches: tuple[Tensor, ...] = order.split(self._batch_size)
        # Batch norm cannot train on a single sample. The order is another one in each epoch.
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 < self._batch_size else batches

    def _moved(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.to(self.device), y.to(self.device)

    def _chunks(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for part, labels in zip(x.split(self._chunk), y.split(self._chunk), strict=True):
            yield self._normalized(part), labels

    def _normalized(self, x: Tensor) -> Tensor:
        if self._as_given:
            return x
        scaled = (x.float() - self._mean) / self._std
        return scaled.contiguous(memory_format=self._format) if scaled.ndim == 4 else scaled


def _mixing(config: RunConfig, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] | None:
    if not (config.mixup or config.cutmix):
        return None
    v2 = library("torchvision.transforms.v2")
    kinds = [(v2.MixUp, config.mixup), (v2.CutMix, config.cutmix)]
    choice = v2.RandomChoice([kind(num_classes=classes, alpha=alpha) for kind, alpha in kinds if alpha])

    def mix(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixed, target = choice(x, y)
        return mixed, y, target

    return mix
