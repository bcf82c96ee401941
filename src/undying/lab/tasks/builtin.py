"""The tasks that need no code."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from undying.lab.data.dataset import Dataset
from undying.lab.tasks.task import Task
from undying.statistics.metric import ACCURACY, Metric


class Classification(Task):
    """One of several classes: cross entropy; accuracy."""

    def __init__(self, dataset: Dataset | None = None) -> None:
        pass

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target)

    def metrics(self) -> Sequence[Metric]:
        return [ACCURACY.by(lambda output, target: float((output.argmax(1) == target).double().mean()))]


class Regression(Task):
    """Numbers: mean squared error of targets that are normalized as in the training data; RMSE, MAE and R2 in the unit of the
    data, over all targets of a sample (R2: the mean over them)."""

    def __init__(self, dataset: Dataset | None = None) -> None:
        self.dataset = dataset

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        mean, std = self._scale(target)
        return F.mse_loss(output.reshape(target.shape), (target - mean) / std)

    def metrics(self) -> Sequence[Metric]:
        return [
            Metric("rmse", "test RMSE", higher_is_better=False, function=self._rmse),
            Metric("mae", "test MAE", higher_is_better=False, function=self._mae),
            Metric("r2", "test R2", function=self._r2),
        ]

    def _rmse(self, output: Tensor, target: Tensor) -> float:
        return float(self._error(output, target).square().mean().sqrt())

    def _mae(self, output: Tensor, target: Tensor) -> float:
        return float(self._error(output, target).abs().mean())

    def _r2(self, output: Tensor, target: Tensor) -> float:
        """One minus the squared error over that of the mean of the test targets; NaN where they are all equal."""
        spread = (target.double() - target.double().mean(0)).square().sum(0)
        return float((1 - self._error(output, target).square().sum(0) / spread).mean())

    def _error(self, output: Tensor, target: Tensor) -> Tensor:
        mean, std = self._scale(target)
        return output.double().reshape(target.shape) * std + mean - target.double()

    def _scale(self, target: Tensor) -> tuple[Tensor, Tensor]:
        assert self.dataset is not None
        mean, std = self.dataset.target_scale
        return mean.to(target.device), std.to(target.device)


class MultiLabel(Task):
    """Any number of labels a sample: binary cross entropy of each; a label is given where its score is above 0."""

    def __init__(self, dataset: Dataset | None = None) -> None:
        pass

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output.reshape(target.shape), target)

    def metrics(self) -> Sequence[Metric]:
        return [
            Metric("f1", "test F1 (micro)", share=True, function=_f1),
            Metric("labels", "share of test labels that are right", share=True, function=_labels),
            Metric("exact", "share of test samples with all labels right", share=True, function=_exact),
        ]


def _right(output: Tensor, target: Tensor) -> Tensor:
    return (output.reshape(target.shape) > 0) == (target > 0.5)


def _f1(output: Tensor, target: Tensor) -> float:
    """2 TP / (2 TP + FP + FN) over all labels; 1 where none is there and none is given."""
    given, there = output.reshape(target.shape) > 0, target > 0.5
    both = 2 * int((given & there).sum())
    either = int(given.sum()) + int(there.sum())
    return both / either if either else 1.0


def _labels(output: Tensor, target: Tensor) -> float:
    return float(_right(output, target).double().mean())


def _exact(output: Tensor, target: Tensor) -> float:
    return float(_right(output, target).all(1).double().mean())
