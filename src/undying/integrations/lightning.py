"""Watch a network that Lightning trains."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    from pytorch_lightning import Callback

from undying.census.watch import Watch, watch


class WatchCallback(Callback):  # type: ignore[misc]
    """:func:`undying.watch` from the start of training to its end, on the module and its first optimizer.

    Args:
        every, probe, sinks, tau, axes: as for :func:`undying.watch`.

    ``callback.watch.last`` is the last record.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.watch: Watch | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.watch = watch(pl_module, trainer.optimizers[0], **self.settings)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.watch is not None:
            self.watch.close()
