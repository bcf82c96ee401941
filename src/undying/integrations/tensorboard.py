"""TensorBoard as a sink of :func:`undying.watch`."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from undying.integrations.scalars import Scalars


class TensorBoard:
    """Writes each record's scalars (:meth:`undying.Record.scalars`): those of the whole network under ``undying/``, those of a
    layer under ``undying LAYER/``, so that TensorBoard shows a group of charts for each layer.

    Args:
        target: folder for the event file, or a ``SummaryWriter`` that stays open.
    """

    def __init__(self, target: str | Path | SummaryWriter) -> None:
        self._own = not isinstance(target, SummaryWriter)
        self._writer = target if isinstance(target, SummaryWriter) else SummaryWriter(target)

    def write(self, record: Scalars) -> None:
        for name, value in record.scalars().items():
            self._writer.add_scalar(_tag(name), value, record.step)

    def close(self) -> None:
        self._writer.flush()
        if self._own:
            self._writer.close()


def _tag(name: str) -> str:
    """
    >>> _tag("silent"), _tag("silent_at/block/act#2")
    ('undying/silent', 'undying block.act#2/silent')
    """
    what, of_a_site, site = name.partition("_at/")
    return f"undying {site.replace('/', '.')}/{what}" if of_a_site else f"undying/{name}"
