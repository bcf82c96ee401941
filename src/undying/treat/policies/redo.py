"""ReDo: recycle dormant neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from undying.treat.policies.policy import Chosen, Look, Policy, share, small, whole


@dataclass(frozen=True)
class ReDo(Policy):
    """Every ``every`` steps, recycle the units whose mean absolute output is small beside that of the site's others.

    Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning" (arXiv:2302.12902), eq. 1 and
    algorithm 1: a unit's score is E\\|h\\| over the mean of that of all units of the site, and it is recycled where that is
    at most ``tau``. The defaults are the paper's. The batches are those of the step.

    Args:
        tau: largest score of a dormant unit; 0: units that give 0 throughout.
        every: steps between looks.

    Raises:
        ValueError: ``tau`` is not in [0, 1), or ``every`` is no whole number of at least 1.
    """

    tau: float = 0.025
    every: int = 1000

    measures: ClassVar[frozenset[str]] = frozenset({"size"})

    def __post_init__(self) -> None:
        share("tau", self.tau)
        whole("every", self.every)

    def listens(self, step: int) -> bool:
        return step % self.every == 0

    def choose(self, look: Look) -> Chosen:
        assert look.seen.size is not None
        return small(look.seen.size, self.tau, look.able)
