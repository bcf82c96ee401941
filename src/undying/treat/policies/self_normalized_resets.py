"""Self-normalized resets: recycle neurons that are silent for longer than they use to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undying.treat.policies.policy import Chosen, Look, Policy, State, whole


@dataclass(frozen=True)
class SelfNormalizedResets(Policy):
    """Recycle a unit when its silence is longer than a percentile of its own past silences.

    Farias and Jozefiak 2025, "Self-Normalized Resets for Plasticity in Continual Learning" (ICLR, arXiv:2410.20098),
    algorithm 1, with thresholds as in the authors' code: a silence is a run of steps in which a unit is above 0 nowhere. Every
    ``window`` steps a unit's threshold becomes the ``percentile`` of the silences that ended since; where that is not below the
    threshold, which cuts silences short, the threshold doubles. A unit that had no silence keeps the one that it has, at
    first ``longest``.

    Args:
        percentile: share of a unit's silences that are below its threshold, or at it; 1 less the paper's eta.
        window: steps between changes of the thresholds.
        longest: largest threshold, in steps. A count is kept for each unit and length.

    Raises:
        ValueError: ``percentile`` is not between 0 and 1, or one of the others no whole number of at least 1.
    """

    percentile: float = 0.98
    window: int = 1000
    longest: int = 256

    measures: ClassVar[frozenset[str]] = frozenset({"fired"})

    def __post_init__(self) -> None:
        if isinstance(self.percentile, bool) or not 0 < self.percentile < 1:
            raise ValueError(f"percentile must be between 0 and 1, such as 0.98, not {self.percentile!r}")
        whole("window", self.window)
        whole("longest", self.longest)

    def begin(self, able: Tensor) -> State:
        many = len(able)
        return {
            "silent_for": torch.zeros(many, dtype=torch.int64, device=able.device),
            "threshold": torch.full((many,), self.longest, device=able.device),
            "silences": torch.zeros(many, self.longest + 1, dtype=torch.int32, device=able.device),
            "looks": 0,
            "next": self.longest,
        }

    def choose(self, look: Look) -> Chosen | None:
        state, chosen = look.state, None
        assert look.seen.fired is not None
        silent_for, fired = state["silent_for"], look.seen.fired
        self._ended(state, fired)
        silent_for += 1
        silent_for.masked_fill_(fired, 0)
        state["looks"] += 1
        if state["looks"] >= state["next"]:  # until then none can be due, whatever the device says
            due = look.able & (silent_for >= state["threshold"])
            self._ended(state, due)
            silent_for.masked_fill_(due, 0)
            chosen = Chosen(due.nonzero().flatten())
            self._wait(state, look.able)
        if state["looks"] % self.window == 0:
            self._adapt(state)
            self._wait(state, look.able)
        return chosen

    def _ended(self, state: State, where: Tensor) -> None:
        length = state["silent_for"].clamp(max=self.longest)
        state["silences"].scatter_add_(1, length[:, None], where[:, None].int())

    def _wait(self, state: State, able: Tensor) -> None:
        left = (state["threshold"] - state["silent_for"])[able]
        state["next"] = state["looks"] + max(1, int(left.min()))

    def _adapt(self, state: State) -> None:
        below = state["silences"][:, 1:].cumsum(1)  # those of length 0 are none
        many = below[:, -1:]
        enough = below >= self.percentile * many.double()
        percentile, threshold = enough.int().argmax(1) + 1, state["threshold"]
        adapted = torch.where(percentile < threshold, percentile, 2 * threshold).clamp(max=self.longest)
        state["threshold"] = torch.where(many[:, 0] > 0, adapted, threshold)
        state["silences"].zero_()
