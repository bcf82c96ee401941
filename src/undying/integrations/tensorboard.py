"""TensorBoard as a sink of :func:`undying.watch`."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from undying.integrations.scalars import Scalars


class TensorBoard:
    """Writes each record's scalars (:meth:`undying.Record.scalars`) under ``undying/``.

    Args:
        target: folder for the event file, or a ``SummaryWriter`` that stays open.
    """

    def __init__(self, target: str | Path | SummaryWriter) -> None:
        self._own = not isinstance(target, SummaryWriter)
        self._writer = target if isinstance(target, SummaryWriter) else SummaryWriter(target)

    def write(self, record: Scalars) -> None:
        for name, value in record.scalars().items():
            self._writer.add_scalar(f"undying/{name}", value, record.step)

    def close(self) -> None:
        self._writer.flush()
        if self._own:
            self._writer.close()
