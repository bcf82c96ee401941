"""A treatment as a whole: an activation and its parts, and both at work in a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from undying._base.errors import UndyingError
from undying.lab.activations import build_activation
from undying.lab.checkpoints import random_state, restore_random
from undying.lab.own_activations import path_of
from undying.lab.treatments.part import Effect, Part, Training


@dataclass(frozen=True)
class Treatment:
    """An activation, and what is done beside it."""

    spec: str
    """As it was written."""
    activation: str
    """What :func:`undying.lab.activations.build_activation` takes."""
    parts: tuple[Part, ...] = ()

    def build(self) -> nn.Module:
        """The activation's module. It may draw its parameters; the generators are put back."""
        return built(self.activation)

    def check(self, *, averaged: bool = False, trained: bool = False) -> None:
        """Before anything runs.

        Args:
            averaged: whether a moving average of the weights is kept.
            trained: whether the network was trained before.

        Raises:
            UndyingError: a part cannot be right with it.
        """
        for part in self.parts:
            if reason := part.objection(averaged=averaged, trained=trained):
                raise UndyingError(f"{self.spec!r}: {reason}")

    def __str__(self) -> str:
        """Its module, of the user's own its import path, since its file may be gone; and its parts with all their arguments."""
        module = self.activation if path_of(self.activation) else repr(self.build())
        return ", ".join([module, *map(repr, self.parts)])

    def prepare(self, model: nn.Module, probe: Iterable[Any]) -> list[str]:
        """Change the structure of a network, after the activation was put in and before its optimizer is made.

        Args:
            model: the network, in place.
            probe: batches as :func:`undying.census` takes them, by which it is looked at.

        Returns:
            names of the parameters and buffers that the treatment owns: it added or replaced them. The others are as they
            were, and no generator was drawn from.

        Raises:
            UndyingError: a part cannot be right for this network.
        """
        with self._named():
            return [name for part in self.parts for name in part.prepare(model, self.build(), probe)]

    def start(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        probe: Iterable[Any],
        total_steps: int,
        seed: int,
        average: nn.Module | None = None,
    ) -> Applied:
        """Begin to act on a training.

        Args:
            model: the network as it is trained: with the activation in it, prepared, alone or in
                DistributedDataParallel, and then on every rank.
            optimizer: what trains it.
            probe: batches as :func:`undying.census` takes them, which can be read again and again.
            total_steps: steps of the optimizer in all, at least 1.
            seed: of the run. Parts draw from generators of their own.
            average: a moving average of the weights, if there is one.

        Raises:
            UndyingError: a part cannot be right for this network.
        """
        with self._named():
            return Applied(self.parts, Training(model, optimizer, probe, total_steps, seed, average))

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """An error of a part says whose part it is."""
        try:
            yield
        except UndyingError as error:
            raise UndyingError(f"{self.spec!r}: {error}") from None


def built(activation: str) -> nn.Module:
    """The module that a spec names, with all generators as they were."""
    state = random_state()
    try:
        return build_activation(activation)
    finally:
        restore_random(state)


class Applied:
    """The parts of a treatment at work in one training: call ``before_step``, the optimizer's step, ``after_step``."""

    def __init__(self, parts: Sequence[Part], training: Training) -> None:
        self.step = 0
        """How many were taken."""
        self.recycles = any(part.recycles for part in parts)
        """Whether any part makes single units anew."""
        begun = {part.name: part.start(training) for part in sorted(parts, key=lambda part: not part.at_once)}
        self._effects: dict[str, Effect] = {name: effect for name, effect in begun.items() if effect is not None}

    def before_step(self) -> None:
        """Call between the backward pass and the optimizer's step, when gradients are no longer scaled."""
        for effect in self._effects.values():
            effect.before_step()

    def after_step(self) -> None:
        """Call after the optimizer's step."""
        self.step += 1
        for effect in self._effects.values():
            effect.after_step(self.step)

    @property
    def recycled(self) -> int:
        """Units made anew so far."""
        return sum(effect.recycled for effect in self._effects.values())

    @property
    def refused(self) -> dict[str, str]:
        """Sites of which some part cannot make all units anew, with the reason."""
        return {site: reason for effect in self._effects.values() for site, reason in effect.refused.items()}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data: with those of the model and the optimizer, the training goes on to the same numbers."""
        return {"step": self.step, "parts": {name: effect.state_dict() for name, effect in self._effects.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``, after model and optimizer were loaded.

        Raises:
            ValueError: it is of another treatment.
        """
        if state["parts"].keys() != self._effects.keys():
            of, here = (", ".join(names) or "none" for names in (state["parts"], self._effects))
            raise ValueError(f"the state is of a treatment with the parts {of}; this one has {here}")
        self.step = state["step"]
        for name, effect in self._effects.items():
            effect.load_state_dict(state["parts"][name])

    def close(self) -> None:
        """Take hooks away. Nothing is to be called afterwards."""
        for effect in self._effects.values():
            effect.close()
