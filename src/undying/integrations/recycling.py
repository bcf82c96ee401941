"""A Recycler from the start of a training to its end, for the callbacks of trainers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from undying.census.sinks import sinks_of
from undying.census.steps import Steps
from undying.treat.policies.policy import Policy
from undying.treat.policies.recycler import Recycler


class Recycling:
    """Makes the :class:`undying.Recycler` when training begins, and has it step after the optimizers.

    Args:
        policy: of the Recycler.
        settings: its others, by name.
    """

    def __init__(self, policy: Policy, settings: Mapping[str, Any]) -> None:
        self.policy, self.settings = policy, {**settings, "sinks": sinks_of(settings.get("sinks", ()))}
        self.recycler: Recycler | None = None
        self._steps: Steps | None = None
        self._state: Mapping[str, Any] | None = None

    def start(self, model: nn.Module, optimizers: list[Optimizer], **defaults: Any) -> None:
        """Training begins.

        Raises:
            ValueError: there is no optimizer.
        """
        self.stop()
        if not optimizers:
            raise ValueError("there is no optimizer after whose steps units could be recycled")
        self.recycler = Recycler(model, optimizers, self.policy, **{**defaults, **self.settings})
        if self._state is not None:
            self.recycler.load_state_dict(self._state)
            self._state = None
        self._steps = Steps(optimizers, self)

    def stop(self) -> None:
        """Training has ended; the Recycler stays, to be asked."""
        if self._steps is not None:
            self._steps.remove()
        if self.recycler is not None:
            self.recycler.close()

    def begins(self) -> None:
        """A step begins."""

    def given(self, optimizer: Optimizer) -> None:
        """An optimizer has its gradients."""

    def ends(self) -> None:
        """Every optimizer has stepped."""
        assert self.recycler is not None
        self.recycler.step()

    def state_dict(self) -> dict[str, Any]:
        """That of the Recycler; empty before training."""
        return {} if self.recycler is None else self.recycler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from this when training begins."""
        self._state = state or None
