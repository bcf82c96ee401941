"""Run configs over a store: on one machine, on a Slurm cluster, on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from undying._base.errors import RunsFailedError, UndyingError
from undying.lab.checkpoints import random_state, restore_random
from undying.lab.execution import Execution
from undying.lab.runs.kind import kind_of
from undying.lab.settings import AnyRun
from undying.lab.store import Store

__all__ = ["check_treatments", "run"]


def run(configs: Sequence[AnyRun], out: Path, execution: Execution, finished: Callable[[AnyRun], None]) -> None:
    """Execute ``configs`` where ``execution`` says; ``finished`` is called here after each.

    A run that fails is tried once more while the rest goes on.

    Raises:
        RunsFailedError: runs failed twice; what is finished stays.
        UndyingError: something that concerns all of them.
    """
    if not configs:
        return
    check_treatments(configs, execution)
    if execution.executor == "submitit":
        from undying.lab.executors.jobs import run_in_jobs as run_in
    elif execution.executor == "ray":
        from undying.lab.executors.cluster import run_in_cluster as run_in
    else:
        from undying.lab.executors.processes import run_in_processes as run_in
    failed = run_in(configs, out.resolve(), execution, finished)
    if failed:
        path, error = Store(out).failure(failed[0])
        raise RunsFailedError(
            f"{len(failed)} of {len(configs)} runs did not finish in two tries, the others did; the first is "
            f"{failed[0].activation}, seed {failed[0].seed}: {error.splitlines()[-1]} (see {path}); "
            "run the same command again to try them once more"
        )


def check_treatments(configs: Sequence[AnyRun], execution: Execution) -> None:
    """Try each treatment on its network, before any run is begun: an activation alone fits all, a part may not.

    Raises:
        UndyingError: one does not fit.
    """
    here = replace(execution, device="cpu", devices=1, compile=False)
    treated = (config for config in configs if kind_of(config).is_treated(config))
    state = random_state()
    for config in {replace(config, seed=0, lr=1.0): config for config in treated}.values():
        try:
            kind_of(config).rehearse(config, here)
        except UndyingError:
            raise
        except Exception:  # the network's own: the run will say so, and is tried again
            continue
        finally:
            restore_random(state)
