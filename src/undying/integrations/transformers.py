"""Activation names for transformers configs (``hidden_act="sugar"``), and callbacks for its Trainer."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.activations import ACT2FN

from undying.activations.barelu import BAReLU
from undying.activations.sugar import SUGAR
from undying.census.sinks import sinks_of
from undying.census.watch import Watch, watch
from undying.integrations.recycling import Recycling
from undying.treat.policies.policy import Policy
from undying.treat.policies.recycler import Recycler

RECYCLER_FILE = "undying_recycler.pt"
"""In a checkpoint's folder: what a RecyclerCallback goes on from."""


def register() -> None:
    """Enter the names; each layer gets a module of its own."""
    ACT2FN.update({"sugar": SUGAR, "barelu": BAReLU})


class WatchCallback(TrainerCallback):
    """:func:`undying.watch` from the start of training to its end, for ``Trainer(callbacks=[...])``.

    Steps are counted on from the trainer's ``global_step``. A Trainer says nothing to its callbacks where an exception or
    Ctrl-C ends ``train``; the first callback of these here therefore puts a function around ``Trainer.train`` that closes them.

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


class RecyclerCallback(TrainerCallback):
    """A :class:`undying.Recycler` from the start of training to its end, for ``Trainer(callbacks=[...])``.

    It steps after the trainer's optimizer. What it remembers is a file in each checkpoint's folder, from which a resumed
    training goes on; where that is missing a warning says so.

    Args:
        policy: of the Recycler.
        settings: its others by name; ``probe`` is needed.

    ``callback.recycler`` is the Recycler.
    """

    def __init__(self, policy: Policy, **settings: Any) -> None:
        self._recycling = Recycling(policy, settings)
        _close_after_train()

    @property
    def recycler(self) -> Recycler | None:
        return self._recycling.recycler

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step:
            path = _file(args, state)
            if path.is_file():
                self._recycling.load_state_dict(torch.load(path, weights_only=True))
            else:
                warnings.warn(f"RecyclerCallback: {path} is not there, so that it begins anew", stacklevel=2)
        self._recycling.start(kwargs["model"], [kwargs["optimizer"]], distributed=args.world_size > 1)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.should_save:
            torch.save(self._recycling.state_dict(), _file(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Leave the network alone."""
        self._recycling.stop()


def _file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / RECYCLER_FILE


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
                if isinstance(callback, (WatchCallback, RecyclerCallback)):
                    callback.close()

    Trainer.train = closing  # type: ignore[method-assign]
