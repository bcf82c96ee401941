"""Recycle units of the networks that stable-baselines3 trains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn
from torch.optim import Optimizer

from undying.integrations.recycling import Recycling
from undying.treat.policies.policy import Policy
from undying.treat.policies.recycler import Recycler

_SAMPLES = 8


class RecyclerCallback(BaseCallback):
    """A :class:`undying.Recycler` from the start of ``learn`` to its end, which steps after the optimizers of the network.

    Save ``callback.state_dict()`` beside the algorithm, and give it to ``load_state_dict`` before ``learn`` goes on.

    Args:
        policy: of the Recycler: which units.
        network: gives the network of an algorithm; default: its actor, where it has one (SAC, TD3), or its ``policy``, called
            as to act. A critic is another network, ``lambda model: model.critic``, and needs a ``probe``.
        settings: the others of the Recycler by name; ``probe`` is by default a few samples of the observation space.

    ``callback.recycler`` is the Recycler.
    """

    def __init__(self, policy: Policy, network: Callable[[Any], nn.Module] | None = None, **settings: Any) -> None:
        super().__init__()
        self._recycling, self._network = Recycling(policy, settings), network

    @property
    def recycler(self) -> Recycler | None:
        return self._recycling.recycler

    def _on_training_start(self) -> None:
        acting = getattr(self.model, "actor", None) or self.model.policy
        network = acting if self._network is None else self._network(self.model)
        defaults = {} if "probe" in self._recycling.settings else {"probe": [self._observations()]}
        self._recycling.start(network, _optimizers_of(self.model, network), **defaults)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._recycling.stop()

    def state_dict(self) -> dict[str, Any]:
        """What the Recycler remembers; empty before training."""
        return self._recycling.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from this when training begins."""
        self._recycling.load_state_dict(state)

    def _observations(self) -> Any:
        space = copy.deepcopy(self.model.observation_space)  # its random numbers are the environment's
        space.seed(0)
        several = [space.sample() for _ in range(_SAMPLES)]
        if isinstance(several[0], dict):
            batch: Any = {key: np.stack([one[key] for one in several]) for key in several[0]}
        else:
            batch = np.stack(several)
        return self.model.policy.obs_to_tensor(batch)[0]


def _optimizers_of(model: Any, network: nn.Module) -> list[Optimizer]:
    """Those that an algorithm's modules hold, of parameters of the network."""
    own = {id(p) for p in network.parameters()}
    held = (getattr(module, "optimizer", None) for module in model.policy.modules())
    optimizers = {id(each): each for each in held if isinstance(each, Optimizer)}.values()
    return [each for each in optimizers if any(id(p) in own for group in each.param_groups for p in group["params"])]
