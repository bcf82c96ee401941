"""Weights & Biases as a sink of :func:`undying.watch`."""

from __future__ import annotations

from typing import Any

from undying.integrations.scalars import Scalars


class WandB:
    """Logs each record's scalars (:meth:`undying.Record.scalars`) under ``undying/``, with ``undying/step``.

    Args:
        run: what ``wandb.init`` gave, online or offline; it stays open.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        # An axis of its own: the run's step may count something else.
        run.define_metric("undying/step")
        run.define_metric("undying/*", step_metric="undying/step")

    def write(self, record: Scalars) -> None:
        values = {f"undying/{name}": value for name, value in record.scalars().items()}
        self._run.log({"undying/step": record.step, **values})

    def close(self) -> None:
        pass
