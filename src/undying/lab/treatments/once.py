"""Parts that act once: recycling, and a start from scratch."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from undying._base.errors import UndyingError
from undying.census.census import census
from undying.lab.treatments.part import Effect, Part, Training, in_range
from undying.treat.anew import INITS
from undying.treat.choice import Units
from undying.treat.recycle import recycle_
from undying.treat.recycled import RecycleReport


@dataclass(frozen=True)
class Once(Part):
    """Acts after the share ``at`` of all steps; 0: before the first."""

    at_once = True
    at: float = 0.0

    def __post_init__(self) -> None:
        in_range("at", self.at, 0, 1, below=True)

    def start(self, training: Training) -> Effect:
        return _Once(self, training)

    def check(self, training: Training) -> None:
        """Raises UndyingError if it could not act."""

    @abstractmethod
    def act(self, training: Training) -> tuple[int, dict[str, str]]:
        """Do it.

        Returns:
            how many single units were made anew, and, by site, why others were not.
        """


class _Once(Effect):
    def __init__(self, part: Once, training: Training) -> None:
        super().__init__()
        self._part, self._training = part, training
        self._due = min(round(part.at * training.steps), training.steps - 1)
        part.check(training)
        self._act(0)

    def after_step(self, step: int) -> None:
        self._act(step)

    def _act(self, step: int) -> None:
        if step == self._due:
            self.recycled, self.refused = self._part.act(self._training)

    def state_dict(self) -> dict[str, Any]:
        return {"recycled": self.recycled, "refused": self.refused}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recycled, self.refused = state["recycled"], state["refused"]


@dataclass(frozen=True)
class Recycle(Once):
    """:func:`undying.recycle_` of the units that are silent on the probe, with ``init`` as there."""

    name = "recycle"
    main = "init"
    recycles = True
    init: str = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, not {self.init!r}")

    def check(self, training: Training) -> None:
        self._recycle(training, {})  # follows the network as later, and changes nothing
        counted = census(training.network, training.probe)
        if all(site.silent is None for site in counted.sites):
            kinds = ", ".join(dict.fromkeys(site.kind for site in counted.sites)) or "no activation"
            raise UndyingError(f"recycle looks for silent units, which {kinds} does not have; leave it out")

    def act(self, training: Training) -> tuple[int, dict[str, str]]:
        report = self._recycle(training, "silent")
        return report.recycled, {row.name: row.note for row in report.rows if row.refused}

    def _recycle(self, training: Training, units: Units) -> RecycleReport:
        generator = torch.Generator().manual_seed(training.seed_of(self))
        try:
            return recycle_(
                training.model,
                training.optimizer,
                probe=training.probe,
                units=units,
                init=self.init,
                generator=generator,
            )
        except (TypeError, ValueError) as error:
            raise UndyingError(f"{self.name}: {error}") from None


@dataclass(frozen=True)
class Fresh(Once):
    """A start from scratch, what every revival is to be held against: every layer begins anew as its own
    ``reset_parameters`` draws it, and the optimizer forgets. Frozen layers stay, and so does the learning rate's schedule.
    """

    name = "fresh"
    main = "at"

    def objection(self, *, averaged: bool, trained: bool) -> str:
        if averaged and self.at:
            return "fresh begins with new weights, of which --ema would make a mean with those before; leave one of the two out"
        return ""

    def check(self, training: Training) -> None:
        for name, module in training.network.named_modules():
            if _is_trained(module) and not hasattr(module, "reset_parameters"):
                raise UndyingError(
                    f"{self.name} cannot start {name or 'the network'!r} anew: {type(module).__name__} has weights and no "
                    "reset_parameters; give it that method, which draws them as at the start"
                )

    @torch.no_grad()
    def act(self, training: Training) -> tuple[int, dict[str, str]]:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(training.seed_of(self))
            for module in filter(_is_trained, training.network.modules()):
                fresh = copy.deepcopy(module).cpu()  # its draws are those of a CPU wherever it is trained
                fresh.reset_parameters()  # type: ignore[operator]
                for own, new in ((module._parameters, fresh._parameters), (module._buffers, fresh._buffers)):
                    for key, value in own.items():
                        if value is not None:
                            value.copy_(new[key])  # type: ignore[arg-type]
        training.optimizer.state.clear()
        training.optimizer.zero_grad()
        return 0, {}


def _is_trained(module: nn.Module) -> bool:
    return any(p is not None and p.requires_grad for p in module._parameters.values())
