"""ReGraMa: recycle neurons that hardly any gradient reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from undying.treat.policies.policy import Chosen, Look, Policy, share, small, whole


@dataclass(frozen=True)
class GradientDormancy(Policy):
    """Every ``every`` steps, recycle the units whose mean absolute gradient is small beside that of the site's others.

    Liu et al. 2025, "Measure gradients, not activations!" (ReGraMa, arXiv:2505.24061): a unit's score is the mean of
    \\|dL/dx\\|, x its pre-activation, over the mean of that of all units of the site, and it is recycled where that is at
    most ``tau``. The batches are those of the step; gradients of several backward passes over one graph (``retain_graph=True``)
    are added by their sizes, also where they would cancel. The defaults are those of public implementations of it.

    Args:
        tau: largest score of a dormant unit; 0: units that no gradient reaches.
        every: steps between looks.

    Raises:
        ValueError: ``tau`` is not in [0, 1), or ``every`` is no whole number of at least 1.
    """

    tau: float = 0.01
    every: int = 1000

    measures: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def __post_init__(self) -> None:
        share("tau", self.tau)
        whole("every", self.every)

    def listens(self, step: int) -> bool:
        return step % self.every == 0

    def choose(self, look: Look) -> Chosen | None:
        gradient = look.seen.gradient
        return None if gradient is None else small(gradient, self.tau, look.able)
