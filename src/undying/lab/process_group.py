"""What a run needs to know of the other processes that train it too, when it is spread over several devices."""

from __future__ import annotations

import contextlib

from torch import Tensor, nn


class SingleProcess:
    """What a run of one process needs of the others: nothing."""

    first = True
    """This process measures, counts and keeps the state."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """``model`` with gradients averaged over all processes."""
        return model

    def share(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """This process's samples of a batch."""
        return batch

    def weighted(self, loss: Tensor) -> Tensor:
        """The mean over a share, scaled so that averaged gradients are those of the mean over the batch."""
        return loss

    def total(self, values: Tensor) -> Tensor:
        """Sum of what the processes found in their shares."""
        return values

    def agreed(self, value: bool) -> bool:
        """What the first process says."""
        return value

    def forked_rng(self, *numbers: int) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Draws in it are this process's own, and the same again for the same ``numbers``; those after it go on as if
        there had been none, equal in all processes."""
        return contextlib.nullcontext()
