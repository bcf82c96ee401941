"""Training that ends as plain ReLU: what sets an activation apart from it, taken away step by step."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from undying.activations import checks
from undying.activations.barelu import SMALLEST_EPS, BAReLU
from undying.activations.sugar import SUGAR

__all__ = ["StrengthSchedule"]


class StrengthSchedule:
    """Takes every :class:`SUGAR` and :class:`BAReLU` in a model from ``start`` to ``end``: train with them, end as ReLU.

    At strength s a SUGAR has ``strength = s``, and a BAReLU has s times the ``alpha`` and ``eps`` that it had when the
    schedule was made. At 0 both are ReLU exactly, forward and backward, and :func:`undying.revert_` changes nothing.

    Call ``step()`` after each ``optimizer.step()``, as with a learning rate scheduler. The strength stays at
    ``start`` for the first ``hold`` of the steps, then moves to ``end``, and stays there.

    Args:
        model: any module that holds SUGAR or BAReLU modules (put there before this call).
        total_steps: number of ``step()`` calls after which ``end`` is reached, at least 1.
        start, end: strengths in [0, 1].
        hold: fraction of the steps, in [0, 1), spent at ``start``.
        shape: ``"linear"`` or ``"cosine"``.

    Raises:
        ValueError: the model holds no SUGAR or BAReLU module, or an argument is out of range.

    >>> model = nn.Sequential(nn.Linear(2, 2), SUGAR(), BAReLU(alpha=0.5))
    >>> schedule = StrengthSchedule(model, total_steps=4)
    >>> for _ in range(4):
    ...     schedule.step()
    ...     print(model[1].strength, model[2].alpha)
    0.75 0.375
    0.5 0.25
    0.25 0.125
    0.0 0.0
    """

    def __init__(
        self,
        model: nn.Module,
        total_steps: int,
        *,
        start: float = 1.0,
        end: float = 0.0,
        hold: float = 0.0,
        shape: str = "linear",
    ) -> None:
        self._sugars = [module for module in model.modules() if isinstance(module, SUGAR)]
        self._barelus = [module for module in model.modules() if isinstance(module, BAReLU)]
        if not self._sugars and not self._barelus:
            raise ValueError(f"{type(model).__name__} holds no undying.SUGAR or BAReLU module; convert it first")
        if not isinstance(total_steps, int) or total_steps < 1:
            raise ValueError(f"total_steps must be a whole number of at least 1, not {total_steps!r}")
        checks.number("start", start, 0.0, 1.0)
        checks.number("end", end, 0.0, 1.0)
        checks.number("hold", hold, 0.0, 1.0)
        if hold == 1:
            raise ValueError("hold must be below 1, or the end is never reached")
        checks.one_of("shape", shape, ("linear", "cosine"))
        self.total_steps, self.start, self.end, self.hold, self.shape = total_steps, start, end, hold, shape
        self.steps_taken = 0
        self._full = [(module.alpha, module.eps) for module in self._barelus]
        """Of each BAReLU at strength 1."""
        self._apply()

    @property
    def strength(self) -> float:
        """The strength in force."""
        progress = min(1.0, max(0.0, (self.steps_taken / self.total_steps - self.hold) / (1 - self.hold)))
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress

    def step(self) -> None:
        """Count one optimizer step and set the strength."""
        self.steps_taken += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs: the steps and, with BAReLU, its ``alpha`` and ``eps`` at strength 1."""
        full: dict[str, Any] = {"barelu": [list(pair) for pair in self._full]} if self._barelus else {}
        return {"steps_taken": self.steps_taken, **full}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()``.

        Raises:
            ValueError: it is of a model with another number of BAReLU modules; nothing was changed.
        """
        full = [(alpha, eps) for alpha, eps in state.get("barelu", [])]
        if len(full) != len(self._barelus):
            raise ValueError(f"the state is of {len(full)} BAReLU modules; this model holds {len(self._barelus)}")
        self.steps_taken, self._full = state["steps_taken"], full
        self._apply()

    def _apply(self) -> None:
        strength = self.strength
        for sugar in self._sugars:
            sugar.strength = strength
        for barelu, (alpha, eps) in zip(self._barelus, self._full, strict=True):
            barelu.alpha = strength * alpha
            barelu.eps = strength * eps if strength * eps >= SMALLEST_EPS else 0.0
