"""Parts that recycle units while a network trains: the policies of :class:`undying.Recycler`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from undying._base.errors import UndyingError
from undying.lab.treatments.part import Effect, Part, Training
from undying.treat.policies.continual_backprop import ContinualBackprop
from undying.treat.policies.gradient_dormancy import GradientDormancy
from undying.treat.policies.policy import Policy
from undying.treat.policies.recycler import Recycler
from undying.treat.policies.redo import ReDo
from undying.treat.policies.self_normalized_resets import SelfNormalizedResets


class Policed(Part):
    """Recycles as a policy says."""

    recycles = True

    def __post_init__(self) -> None:
        self.policy()  # which checks its settings

    @abstractmethod
    def policy(self) -> Policy:
        """It, with these arguments."""

    def start(self, training: Training) -> Effect:
        return _Recycling(self, training)


class _Recycling(Effect):
    def __init__(self, part: Policed, training: Training) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(training.seed_of(part))
        try:
            self._recycler = Recycler(
                training.model, training.optimizer, part.policy(), probe=training.probe, generator=generator
            )
        except (TypeError, ValueError) as error:
            raise UndyingError(f"{part.name}: {error}") from None
        self.refused = self._recycler.refused

    def after_step(self, step: int) -> None:
        self._recycler.step()
        self.recycled = self._recycler.recycled

    def state_dict(self) -> dict[str, Any]:
        return self._recycler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recycler.load_state_dict(state)
        self.recycled = self._recycler.recycled

    def close(self) -> None:
        self._recycler.close()


@dataclass(frozen=True)
class Redo(Policed):
    """Every ``every`` steps the units whose mean output is at most ``tau`` of their site's; see :class:`undying.ReDo`."""

    name = "redo"
    main = "tau"
    tau: float = ReDo.tau
    every: int = ReDo.every

    def policy(self) -> Policy:
        return ReDo(tau=self.tau, every=self.every)


@dataclass(frozen=True)
class Cbp(Policed):
    """In every step the share ``rate`` of a site's units, those of least use; see :class:`undying.ContinualBackprop`."""

    name = "cbp"
    main = "rate"
    rate: float = ContinualBackprop.replacement_rate
    maturity: int = ContinualBackprop.maturity
    utility: str = ContinualBackprop.utility
    decay: float = ContinualBackprop.decay

    def policy(self) -> Policy:
        return ContinualBackprop(
            replacement_rate=self.rate, maturity=self.maturity, utility=self.utility, decay=self.decay
        )


@dataclass(frozen=True)
class Snr(Policed):
    """Units that are silent for longer than they use to be; see :class:`undying.SelfNormalizedResets`."""

    name = "snr"
    main = "percentile"
    percentile: float = SelfNormalizedResets.percentile
    window: int = SelfNormalizedResets.window
    longest: int = SelfNormalizedResets.longest

    def policy(self) -> Policy:
        return SelfNormalizedResets(percentile=self.percentile, window=self.window, longest=self.longest)


@dataclass(frozen=True)
class Grama(Policed):
    """Every ``every`` steps the units whose mean gradient is at most ``tau`` of their site's; see
    :class:`undying.GradientDormancy`."""

    name = "grama"
    main = "tau"
    tau: float = GradientDormancy.tau
    every: int = GradientDormancy.every

    def policy(self) -> Policy:
        return GradientDormancy(tau=self.tau, every=self.every)
