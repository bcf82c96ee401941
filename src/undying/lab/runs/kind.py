"""The kinds of runs that there are, by what config.json calls them."""

from __future__ import annotations

from undying.lab.runs.cartpole import CartPoleRun
from undying.lab.runs.dying import DyingRun
from undying.lab.settings import AnyRun, RunConfig

KINDS: dict[str, type[AnyRun]] = {kind.kind: kind for kind in (RunConfig, CartPoleRun, DyingRun)}
"""How each is trained: ``undying.lab.executors.work``."""
