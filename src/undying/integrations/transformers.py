"""Activation names for transformers configs (``hidden_act="sugar"``), and a callback for its Trainer."""

from __future__ import annotations

import functools
from typing import Any

from transformers import TrainerCallback
from transformers.activations import ACT2FN

from undying.activations.barelu import BAReLU
from undying.activations.sugar import SUGAR
from undying.census.sinks import sinks_of
from undying.census.watch import Watch, watch


def register() -> None:
    """Enter the names; each layer gets a module of its own."""
    ACT2FN.update({"sugar": SUGAR, "barelu": BAReLU})


class WatchCallback(TrainerCallback):
    """:func:`undying.watch` from the start of training to its end, for ``Trainer(callbacks=[...])``.

    Steps are counted on from the trainer's ``global_step``. A Trainer says nothing to its callbacks where an exception or
    Ctrl-C ends ``train``; the first of these callbacks therefore puts a function around ``Trainer.train`` that closes them.

    Args:
        settings: those of :func:`undying.watch` by name.

    ``callback.watch.last`` is the last record.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {**settings, "sinks": sinks_of(settings.get("sinks", ()))}
        self.watch: Watch | None = None
        _close_after_train()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()
        settings = {"first": state.global_step, "distributed": args.world_size > 1, **self.settings}
        self.watch = watch(kwargs["model"], kwargs["optimizer"], **settings)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the watch, if one is under way."""
        if self.watch is not None:
            self.watch.close()


@functools.cache
def _close_after_train() -> None:
    from transformers import Trainer  # takes seconds to import, which register does not need

    train = Trainer.train

    @functools.wraps(train)
    def closing(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return train(self, *args, **kwargs)
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, WatchCallback):
                    callback.close()

    Trainer.train = closing  # type: ignore[method-assign]
