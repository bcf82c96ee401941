"""Runs as tasks of a Ray cluster: that of RAY_ADDRESS, else one of this machine for as long as it takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.lab.execution import Execution
from undying.lab.executors.work import DIED, FAILED, FINISHED, Queue, execute_elsewhere
from undying.lab.settings import AnyRun
from undying.lab.store import Store


def run_in_cluster(
    configs: Sequence[AnyRun], out: Path, execution: Execution, finished: Callable[[AnyRun], None]
) -> list[AnyRun]:
    """Execute ``configs``, ``execution.runs_at_once`` at a time; ``finished`` is called here after each. Returns those that
    failed twice. All machines of the cluster must see ``out``."""
    ray = need("ray", "scale", "--executor ray")
    gpu = torch.device(execution.device).type == "cuda"
    here: dict[str, Any] = (
        {}
        if "RAY_ADDRESS" in os.environ
        else {"num_cpus": execution.runs_at_once * execution.devices, "include_dashboard": False}
    )
    ray.init(log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}, **here)
    task = ray.remote(num_cpus=execution.devices, num_gpus=execution.devices if gpu else 0, max_retries=0)(
        execute_elsewhere
    )
    queue = Queue((config,) for config in configs)
    at: dict[Any, AnyRun] = {}
    try:
        while queue.waiting or at:
            while queue.waiting and len(at) < execution.runs_at_once:
                [config], waits = queue.take()
                at[task.remote(config, out, execution, waits, list(sys.path))] = config
            [done], _ = ray.wait(list(at))
            config = at.pop(done)
            try:
                outcome, mistake = ray.get(done)
            except ray.exceptions.RayError:
                outcome, mistake = FAILED, ""
                Store(out).fail(config, DIED)
            if mistake:
                raise UndyingError(mistake)
            queue.put(config, outcome)
            if outcome == FINISHED:
                finished(config)
    finally:
        ray.shutdown()
    return queue.failed
