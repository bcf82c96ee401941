"""What every kind of source ends as: four tensors in memory, hashed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from undying._base.errors import UndyingError


@dataclass(frozen=True)
class Dataset:
    """Images as uint8 (N, C, H, W), or features (N, ...) of a floating type; targets as ``targets`` says."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    """Or, where the targets are none, the numbers that a network is to give a sample."""
    names: tuple[str, ...] = ()
    """Of the classes, where the source has them."""
    whole: bool = False
    """Whether the test part is every sample of the source, those of the training part too."""
    targets: str = "classes"
    """``"classes"``: int64 (N,) in [0, classes); ``"values"``: float32 (N, classes), any numbers; ``"labels"``: the same, each 0
    or 1; ``"own"``: whatever a task of the user's takes, like the samples, which are given to the network as they are."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """Files that were left out, each with the reason."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, H, W) for images."""
        return tuple(self.x_train.shape[1:])

    @property
    def example(self) -> Tensor:
        """Two samples of zeros, as a network gets them."""
        kind = self.x_train.dtype if self.targets == "own" else torch.float32
        return torch.zeros((2, *self.shape), dtype=kind)

    @cached_property
    def sha256(self) -> str:
        """Of all four tensors, and of how they are taken."""
        digest = hashlib.sha256()
        for tensor in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        if self.targets != "classes":
            digest.update(f"{self.targets} {self.classes}".encode())
        if self._is_table:
            digest.update(b"scaled by column")  # runs of before, which were not, are other runs
        return digest.hexdigest()

    @property
    def _is_table(self) -> bool:
        """Whether a sample is a row of features, each with a unit of its own."""
        return self.x_train.ndim == 2 and self.targets != "own"

    @cached_property
    def scale(self) -> tuple[Tensor, Tensor]:
        """(mean, std) of the training data in float32: of each channel of an image, of each column of a table, else of
        all values; 0 and 1 where a task of the user's own takes them as they are."""
        if self.targets == "own":
            return torch.zeros(()), torch.ones(())
        if self._is_table:
            columns = self.x_train.double()
            mean, std = columns.mean(0).float(), columns.std(0).float()
            return mean, torch.where(std > 0, std, 1.0)
        channels = self.x_train.unbind(1) if self.x_train.ndim == 4 else (self.x_train,)
        # One channel at a time: the whole in float32 is four times the data. A constant channel is only shifted.
        moments = [(c.float().mean(), c.float().std()) for c in channels]
        mean, std = (torch.stack(m) for m in zip(*moments, strict=True))
        std = torch.where(std > 0, std, 1.0)
        shape = (-1, 1, 1) if self.x_train.ndim == 4 else ()
        return mean.reshape(shape), std.reshape(shape)

    @cached_property
    def target_scale(self) -> tuple[Tensor, Tensor]:
        """(mean, std) of each number of the training targets, in float32."""
        y = self.y_train.double()
        mean, std = y.mean(0).float(), y.std(0).float()
        return mean, torch.where(std > 0, std, 1.0)

    def standardised(self, x: Tensor) -> Tensor:
        """``x``, samples, in float32 and such that the training data have mean 0 and std 1, see ``scale``; those of a task of
        the user's own as they are."""
        if self.targets == "own":
            return x
        mean, std = self.scale
        return (x.float() - mean) / std

    def per_class(self) -> dict[str, list[int]]:
        """Number of samples of each class."""
        labels = {"train": self.y_train, "test": self.y_test}
        return {part: torch.bincount(y, minlength=self.classes).tolist() for part, y in labels.items()}

    def describe(self) -> dict[str, Any]:
        """Name, counts, classes, shape and hash, as they go into reports."""
        return {
            "name": self.name,
            "train": len(self.x_train),
            "test": len(self.x_test),
            **({"classes": self.classes} if self.targets == "classes" else {"outputs": self.classes}),
            "shape": list(self.shape),
            "sha256": self.sha256,
        }

    def checked(self) -> Dataset:
        """This data set, if it can be trained on.

        Raises:
            UndyingError: numbers or shapes do not fit, there is nothing in it, or a label is no class.
        """
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            if len(x) == 0 or len(x) != len(y):
                raise UndyingError(f"data {self.name}: {part} has {len(x)} samples and {len(y)} labels")
            if not isinstance(x, Tensor) or tuple(x.shape[1:]) != self.shape:
                raise UndyingError(
                    f"data {self.name}: a test sample is {tuple(x.shape[1:])}, a training one {self.shape}"
                )
            if self.targets == "own":
                continue
            if x.dtype != torch.uint8 and not x.is_floating_point():
                raise UndyingError(f"data {self.name}: samples are {x.dtype}; they must be uint8 or floating point")
            if x.is_floating_point() and not bool(x.isfinite().all()):
                raise UndyingError(
                    f"data {self.name}: a {part} sample holds values that are infinite or NaN in {x.dtype}"
                )
            if self.targets != "classes":
                self._check_numbers(part, y)
            elif int(y.min()) < 0 or int(y.max()) >= self.classes:
                raise UndyingError(
                    f"data {self.name}: {part} labels go from {int(y.min())} to {int(y.max())}; "
                    f"with {self.classes} classes they must be 0 to {self.classes - 1}"
                )
        if self.classes < 2 and self.targets == "classes" and not self.whole:
            raise UndyingError(f"data {self.name} has {self.classes} class; a comparison needs two or more")
        return self

    def _check_numbers(self, part: str, y: Tensor) -> None:
        if y.ndim != 2 or y.shape[1] != self.classes:
            raise UndyingError(
                f"data {self.name}: a training sample has {self.classes} targets, {part} is {tuple(y.shape)}"
            )
        if not bool(y.isfinite().all()):
            raise UndyingError(f"data {self.name}: a {part} target is infinite or NaN in float32")
        constant = [column for column in range(self.classes) if bool((y[:, column] == y[0, column]).all())]
        if self.targets == "values" and constant:
            raise UndyingError(
                f"data {self.name}: target {constant[0] + 1} of {self.classes} is {float(y[0, constant[0]]):g} in every {part} "
                "sample, in float32, so there is nothing to predict or to score; leave it out, or bring it to another scale"
            )
        if self.targets == "labels" and not bool(((y == 0) | (y == 1)).all()):
            raise UndyingError(
                f"data {self.name}: {part} targets of several labels must be 0 or 1, not {float(y[(y != 0) & (y != 1)][0]):g}"
            )

    def drawn(self, number: int) -> Tensor:
        """Indices, ascending, of ``number`` training samples: the same share of each class, and always the same ones."""
        if self.targets == "classes":
            return stratified(self.y_train, self.classes, number)
        order = torch.randperm(len(self.y_train), generator=torch.Generator().manual_seed(0))
        return order[:number].sort().values

    def subset(self, samples: int) -> Dataset:
        """With ``samples`` of the training data only, see ``drawn``.

        Raises:
            UndyingError: there are not so many.
        """
        if samples > len(self.x_train):
            raise UndyingError(
                f"--subset {samples} is more than the {len(self.x_train)} training samples of {self.name}"
            )
        kept = self.drawn(samples)
        return replace(self, x_train=self.x_train[kept], y_train=self.y_train[kept])

    def without(self, share: float) -> tuple[Dataset, Tensor, Tensor]:
        """(the data with ``share`` of its training samples held out, x and y held out); see ``subset``."""
        held = self.drawn(round(share * len(self.y_train)))
        rest = torch.ones(len(self.y_train), dtype=torch.bool)
        rest[held] = False
        if not 0 < len(held) < len(rest):
            raise UndyingError(f"--validation {share} of {len(rest)} training samples leaves none on one side")
        kept = replace(self, x_train=self.x_train[rest], y_train=self.y_train[rest])
        return kept, self.x_train[held], self.y_train[held]


def stratified(labels: Tensor, classes: int, number: int) -> Tensor:
    """Indices, ascending, of ``number`` samples drawn with the same share of each class; the same in every process.

    >>> stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 2, 3).numel()
    3
    """
    counts = torch.bincount(labels, minlength=classes)
    exact = counts.double() * number / len(labels)
    wanted = exact.floor().long()
    # The largest remainders get the samples that rounding down left.
    wanted[(exact - wanted).argsort(descending=True, stable=True)[: number - int(wanted.sum())]] += 1
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for label, take in enumerate(wanted.tolist()):
        members = (labels == label).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=generator)[:take]])
    return torch.cat(drawn).sort().values
