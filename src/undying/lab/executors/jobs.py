"""Runs as jobs of a Slurm cluster, through submitit; where there is no Slurm, as processes of this machine."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.lab.execution import Execution
from undying.lab.executors.work import BUSY, execute_elsewhere
from undying.lab.settings import AnyRun
from undying.lab.store import Store


def run_in_jobs(
    configs: Sequence[AnyRun], out: Path, execution: Execution, finished: Callable[[AnyRun], None]
) -> list[AnyRun]:
    """Execute ``configs``, a share a job; ``finished`` is called here after each. Returns those that did
    not finish in two tries.

    What failed, or was lost with its job, is given to jobs once more. Interrupted, it cancels the jobs.
    """
    submitit = need("submitit", "scale", "--executor submitit")
    executor = submitit.AutoExecutor(out / "jobs")
    if executor.cluster != "slurm":
        warnings.warn("there is no Slurm here (no srun): the jobs are processes of this machine", stacklevel=2)
    asked = dict(word.split("=", 1) for word in execution.job)
    numbers = {key: int(value) if value.isdecimal() else value for key, value in asked.items()}
    executor.update_parameters(**{"name": "undying", "timeout_min": 240, "cpus_per_task": execution.devices, **numbers})
    store, todo = Store(out), list(configs)
    for _ in range(2):
        shares = [todo[worker :: execution.runs_at_once] for worker in range(min(execution.runs_at_once, len(todo)))]
        jobs = [executor.submit(_share, share, out, execution, list(sys.path)) for share in shares]
        try:
            while todo and not all(job.done() for job in jobs):
                time.sleep(0.5)
                todo = _still(todo, store, finished)
        except BaseException:
            for job in jobs:
                job.cancel()
            raise
        todo = _still(todo, store, finished)
        mistake = next((job.result() for job in jobs if job.done() and job.exception() is None and job.result()), "")
        if mistake:
            raise UndyingError(mistake)
        if not todo:
            break
    for config in todo:
        if not store.has_failed(config):
            store.fail(config, f"its job ended before it, see {out / 'jobs'}")
    return todo


def _still(todo: list[AnyRun], store: Store, finished: Callable[[AnyRun], None]) -> list[AnyRun]:
    """Those that are not finished yet; ``finished`` is called for the others."""
    over = [config for config in todo if store.finished(config)]
    for config in over:
        finished(config)
    return [config for config in todo if config not in over]


def _share(configs: Sequence[AnyRun], out: Path, execution: Execution, paths: Sequence[str]) -> str:
    """Execute them one after the other. Returns the message of a mistake that concerns every run, or nothing."""
    left: list[AnyRun] = []
    for wait, some in ((False, configs), (True, left)):
        for config in some:
            outcome, mistake = execute_elsewhere(config, out, execution, wait, paths)
            if mistake:
                return mistake
            if outcome == BUSY:
                left.append(config)
    return ""
