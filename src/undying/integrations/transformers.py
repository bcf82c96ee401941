"""Activation names for transformers configs (``hidden_act="sugar"``), and a callback for its Trainer."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.activations import ACT2FN

from undying.activations.barelu import BAReLU
from undying.activations.sugar import SUGAR
from undying.census.watch import Watch, watch


def register() -> None:
    """Enter the names; each layer gets a module of its own."""
    ACT2FN.update({"sugar": SUGAR, "barelu": BAReLU})


class WatchCallback(TrainerCallback):
    """:func:`undying.watch` from the start of training to its end, for ``Trainer(callbacks=[...])``.

    Args:
        every, probe, sinks, tau, axes: as for :func:`undying.watch`.

    ``callback.watch.last`` is the last record.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.watch: Watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs["optimizer"]
        # accelerate wraps the optimizer; the steps are those of the one inside.
        self.watch = watch(kwargs["model"], getattr(optimizer, "optimizer", optimizer), **self.settings)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.watch is not None:
            self.watch.close()
