"""Continual backprop: replace a few of the least useful neurons all the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undying.treat.policies.policy import Chosen, Look, Policy, State, share, whole

UTILITIES = ("contribution", "weight")


@dataclass(frozen=True)
class ContinualBackprop(Policy):
    """In every step, replace a share of the mature units of a site: those of least utility.

    Dohare et al. 2024, "Loss of plasticity in deep continual learning" (Nature 632), eq. 1 and algorithm 1: utility is a
    running mean of \\|h\\| times the sum of the absolute outgoing weights, divided by 1 - ``decay`` ** age, since it begins at
    0. What a replaced unit gave on average, a running mean of h that is corrected likewise, moves into the bias behind it.
    The share is added up over steps, until it makes a unit. The defaults are the paper's.

    Args:
        replacement_rate: share of the mature units that is replaced in a step.
        maturity: a unit is not replaced in so many steps after it was.
        utility: ``"contribution"``, or ``"weight"``: the outgoing weights alone.
        decay: of the running means.

    Raises:
        ValueError: a share is not in [0, 1), ``maturity`` no whole number of at least 0, or ``utility`` not known.
    """

    replacement_rate: float = 1e-4
    maturity: int = 100
    utility: str = "contribution"
    decay: float = 0.99

    measures: ClassVar[frozenset[str]] = frozenset({"size", "mean"})

    def __post_init__(self) -> None:
        share("replacement_rate", self.replacement_rate)
        share("decay", self.decay)
        whole("maturity", self.maturity, 0)
        if self.utility not in UTILITIES:
            raise ValueError(f"utility must be one of {', '.join(UTILITIES)}, not {self.utility!r}")

    def begin(self, able: Tensor) -> State:
        # How many are mature is known without asking the device: as many as were replaced are young.
        return {
            "age": torch.zeros(len(able), dtype=torch.int64, device=able.device),
            "utility": torch.zeros(len(able), device=able.device),
            "mean": torch.zeros(len(able), device=able.device),
            "looks": 0,
            "mature": 0,
            "young": [[0, int(able.sum())]],
            "owed": 0.0,
        }

    def update(self, looks: Sequence[Look]) -> None:
        # An operation at a time over all sites: what reads the weights takes the processor's caches.
        utilities = [look.site.outgoing() for look in looks]
        if self.utility == "contribution":
            sizes = [look.seen.size for look in looks if look.seen.size is not None]
            utilities = [outgoing * size for outgoing, size in zip(utilities, sizes, strict=True)]
        for look, utility in zip(looks, utilities, strict=True):
            look.state["utility"].lerp_(utility.float(), 1 - self.decay)
        for look in looks:
            assert look.seen.mean is not None
            look.state["mean"].lerp_(look.seen.mean.float(), 1 - self.decay)
        for look in looks:
            look.state["age"] += 1

    def choose(self, look: Look) -> Chosen | None:
        state = look.state
        age, utility, mean = state["age"], state["utility"], state["mean"]
        many = self._due(state)
        if not many:
            return None
        correction = 1 - self.decay**age
        ranked = torch.where(look.able & (age > self.maturity), utility / correction, torch.inf)
        units = ranked.argsort(stable=True)[:many]
        means = (mean / correction)[units]
        for each in (age, utility, mean):
            each[units] = 0
        return Chosen(units, means)

    def _due(self, state: State) -> int:
        """How many units are replaced now."""
        state["looks"] += 1
        state["mature"] += sum(many for since, many in state["young"] if state["looks"] - since > self.maturity)
        young = [[since, many] for since, many in state["young"] if state["looks"] - since <= self.maturity]
        state["owed"] += self.replacement_rate * state["mature"]
        many: int = min(int(state["owed"]), state["mature"])
        state["owed"] -= many
        state["mature"] -= many
        state["young"] = [*young, [state["looks"], many]] if many else young
        return many
