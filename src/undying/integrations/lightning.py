"""Watch a network that Lightning trains."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    from pytorch_lightning import Callback

from torch.nn.parallel import DistributedDataParallel

from undying.census.sinks import sinks_of
from undying.census.watch import Watch, watch


class WatchCallback(Callback):  # type: ignore[misc]
    """:func:`undying.watch` from the start of training to its end, on the module and its optimizers.

    Steps are counted on from the trainer's ``global_step``. Without an optimizer every batch is a step.

    Args:
        every, probe, sinks, tau, axes, mask, skip, method: as for :func:`undying.watch`. ``method="training_step"`` counts
            what that calls between the parts of the module, its losses too.

    ``callback.watch.last`` is the last record.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {**settings, "sinks": sinks_of(settings.get("sinks", ()))}
        self.watch: Watch | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._close()
        model = trainer.model if isinstance(trainer.model, DistributedDataParallel) else pl_module
        optimizers = trainer.optimizers
        first = (
            trainer.global_step // len(optimizers) if optimizers else trainer.fit_loop.epoch_loop.total_batch_idx + 1
        )
        self.watch = watch(model, optimizers or None, **{"first": first, **self.settings})

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self.watch is not None and not trainer.optimizers:
            self.watch.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.watch is not None:
            self.watch.close()
