"""Watch a network that Lightning trains, and recycle its units."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    from pytorch_lightning import Callback

from undying.census.sinks import sinks_of
from undying.census.watch import Watch, watch
from undying.integrations.recycling import Recycling
from undying.treat.policies.policy import Policy
from undying.treat.policies.recycler import Recycler


class WatchCallback(Callback):  # type: ignore[misc]
    """:func:`undying.watch` from the start of training to its end, on the module and its optimizers.

    Steps are counted on from the trainer's ``global_step``. Without an optimizer every batch is a step.

    Args:
        settings: those of :func:`undying.watch` by name. ``method="training_step"`` counts what that calls between the
            parts of the module, its losses too.

    ``callback.watch.last`` is the last record.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {**settings, "sinks": sinks_of(settings.get("sinks", ()))}
        self.watch: Watch | None = None
        self._by_batch = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._close()
        optimizers = _optimizers(trainer)
        self._by_batch = not optimizers
        steps = trainer.fit_loop.epoch_loop.total_batch_idx + 1 if self._by_batch else trainer.global_step
        settings = {"first": steps // max(1, len(optimizers)), "distributed": trainer.world_size > 1, **self.settings}
        self.watch = watch(pl_module, optimizers or None, **settings)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self.watch is not None and self._by_batch:
            self.watch.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.watch is not None:
            self.watch.close()


class RecyclerCallback(Callback):  # type: ignore[misc]
    """A :class:`undying.Recycler` from the start of training to its end, which steps after the module's optimizers.

    What it remembers is in the trainer's checkpoints, and goes on from there.

    Args:
        policy: of the Recycler.
        settings: its others by name; ``probe`` is needed.

    ``callback.recycler`` is the Recycler.
    """

    def __init__(self, policy: Policy, **settings: Any) -> None:
        self._recycling = Recycling(policy, settings)

    @property
    def recycler(self) -> Recycler | None:
        return self._recycling.recycler

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._recycling.start(pl_module, _optimizers(trainer), distributed=trainer.world_size > 1)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._recycling.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._recycling.stop()

    def state_dict(self) -> dict[str, Any]:
        return self._recycling.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._recycling.load_state_dict(state_dict)


def _optimizers(trainer: Any) -> list[Any]:
    """Where there is none Lightning puts one in its place, which is never stepped."""
    return [each for each in trainer.optimizers if type(each).__name__ != "_MockOptimizer"]
