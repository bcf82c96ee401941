"""Environments of classic control that change while an agent learns: ``begin(task)`` draws another one."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv

LIMITS = {"ChangingCartPole-v0": 200, "ChangingAcrobot-v0": 100}
"""Id -> steps after which an episode ends; with a reward of at most 1 a step, the most that one can bring."""


class ChangingCartPole(CartPoleEnv):
    """CartPole whose dynamics change: length of the pole and size of the force from half to twice the usual. Task 0 is the
    usual one."""

    def begin(self, task: int) -> None:
        """Go on as task number ``task``, the same one in every process."""
        longer, stronger = np.random.default_rng(task).uniform(-1, 1, 2) if task else (0.0, 0.0)
        self.length = 0.5 * 2**longer
        self.polemass_length = self.masspole * self.length
        self.force_mag = 10.0 * 2**stronger


class ChangingAcrobot(AcrobotEnv):
    """Acrobot whose reward changes: how far the tip is in the direction that the task draws, from 0 to 1. In task 0 that
    is straight up. An episode ends at its limit of steps alone."""

    _direction = math.pi

    def begin(self, task: int) -> None:
        """As ``ChangingCartPole.begin``. Directions are at least a quarter turn from straight down, where it hangs."""
        self._direction = float(np.random.default_rng(task).uniform(0.5, 1.5)) * math.pi if task else math.pi

    def step(self, a: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observed, _, _, cut, info = super().step(a)
        return observed, self.reached(), False, cut, info

    def reached(self) -> float:
        """Place of the tip along the direction, of two links of length 1: 0 opposite, 1 all the way."""
        state: Any = self.state
        first, second = float(state[0]), float(state[0] + state[1])
        along = math.cos(first - self._direction) + math.cos(second - self._direction)
        return (along / 2 + 1) / 2


for name, kind in (("ChangingCartPole-v0", ChangingCartPole), ("ChangingAcrobot-v0", ChangingAcrobot)):
    entry = f"{__name__}:{kind.__name__}"
    gymnasium.register(name, entry, max_episode_steps=LIMITS[name], disable_env_checker=True, order_enforce=False)
