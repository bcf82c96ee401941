"""MLflow as a sink of :func:`undying.watch`."""

from __future__ import annotations

import mlflow

from undying.census.record import Record


class MLflow:
    """Logs each record's scalars (:meth:`undying.Record.scalars`) under ``undying/``, in the active run or ``run_id``."""

    def __init__(self, run_id: str | None = None) -> None:
        self._run_id = run_id

    def write(self, record: Record) -> None:
        values = {
            f"undying/{name}".replace("#", "-"): value for name, value in record.scalars().items()
        }  # no # in names
        mlflow.log_metrics(values, step=record.step, run_id=self._run_id)

    def close(self) -> None:
        pass
