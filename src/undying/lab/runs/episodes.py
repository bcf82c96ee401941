"""Episodes of a trained agent, which takes its most likely action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

EPISODES = 20
"""To measure a trained policy: so many for the report, and as many others for choices."""


def played(agent: Any, make: Callable[[], Any], seeds: Sequence[int]) -> list[float]:
    """Return of an episode from each seed, played side by side."""
    envs = [make() for _ in seeds]
    at = {number: env.reset(seed=seed)[0] for number, (env, seed) in enumerate(zip(envs, seeds, strict=True))}
    returns = [0.0] * len(envs)
    while at:
        actions, _ = agent.predict(np.stack(list(at.values())), deterministic=True)
        for number, action in zip(list(at), actions, strict=True):
            at[number], reward, ended, cut, _ = envs[number].step(action)
            returns[number] += float(reward)
            if ended or cut:
                del at[number]
    for env in envs:
        env.close()
    return returns
