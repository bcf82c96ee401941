"""What a network learns, and what it is judged by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from undying.statistics.metric import Metric


class Task(ABC):
    """Subclass it for a task of your own, and name it with ``--task package.module:Class``.

    It is made without arguments, once a process. Samples and targets are given to the network and to these methods as
    ``data`` gives them: normalize them there.

    >>> import torch
    >>> class Doubling(Task):
    ...     def data(self):
    ...         x = torch.linspace(-1, 1, 64).reshape(-1, 1)
    ...         return (x[::2], 2 * x[::2]), (x[1::2], 2 * x[1::2])
    ...     def loss(self, output, target):
    ...         return (output - target).square().mean()
    ...     def metrics(self):
    ...         worst = lambda output, target: (output - target).abs().max()
    ...         return [Metric("worst", "largest error", higher_is_better=False, function=worst)]
    >>> [metric.name for metric in Doubling().metrics()]
    ['worst']
    """

    def data(self) -> Any:
        """(train, test): each a pair of tensors (samples, targets), a torch Dataset with a length, or a DataLoader.

        It is called under a fixed seed, and read once and in order: leave random augmentation out.
        """
        raise NotImplementedError(f"{type(self).__name__} has no data()")

    @abstractmethod
    def loss(self, output: Any, target: Tensor) -> Tensor:
        """What is minimised: a scalar, the mean over the samples of a batch."""

    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """What it is judged by, each with its ``function`` of all outputs and targets of the test data; the first decides.

        Verdicts are corrected for their number, so name those that you ask about.
        """

    def probe(self) -> tuple[Tensor, Tensor] | None:
        """(samples, targets) on which units are counted; None: the first training samples."""
        return None
