"""Runs in processes of this machine, one a core or one a GPU."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import torch

from undying._base.errors import UndyingError
from undying.lab.execution import Execution, exit_with, prepare
from undying.lab.executors.work import DIED, FAILED, FINISHED, Queue, execute_group, groups_of
from undying.lab.settings import AnyRun
from undying.lab.store import Store

PRELOADED = [
    "undying.lab.executors.work",
    "undying.lab.runs.classification",
    "undying.lab.runs.together",
    "sklearn.datasets",
    "sklearn.model_selection",
    "torch._dynamo",  # torch does at an optimizer's first step
]
"""What the workers of ``undying compare`` import, none of it a user's own."""

NONE_STARTS = (
    "no worker process can start: what stopped it stands above. Each of them imports your script, so what starts runs "
    "there belongs under if __name__ == '__main__':"
)


def warm_up(execution: Execution) -> None:
    """Have the process that workers are forked from import what they need, while the caller does the same and plans."""
    if execution.executor == "processes" and _context(execution).get_start_method() == "forkserver":
        forkserver.ensure_running()


def run_in_processes(
    configs: Sequence[AnyRun], out: Path, execution: Execution, finished: Callable[[AnyRun], None]
) -> list[AnyRun]:
    """Execute ``configs``; ``finished`` is called here after each. Returns those that failed twice.

    Interrupted (Ctrl-C), it stops the workers at once; runs that have finished stay.

    Raises:
        UndyingError: no worker can start.
    """
    context = _context(execution)
    reader, writer = context.Pipe(duplex=False)
    started: list[Future[int]] = []

    def make(worker: int) -> ProcessPoolExecutor:
        # One process each, since one that dies breaks its whole pool.
        pool = ProcessPoolExecutor(1, context, _start_worker, (reader, execution, worker, dict(os.environ)))
        started.append(pool.submit(int))
        return pool

    pools: dict[int, ProcessPoolExecutor] = {}
    queue = Queue(groups_of(configs, out, execution))
    at: dict[Future[list[str]], tuple[int, tuple[AnyRun, ...]]] = {}
    try:
        while queue.waiting or at:
            idle = set(range(execution.runs_at_once)) - {worker for worker, _ in at.values()}
            for worker in sorted(idle)[: len(queue.waiting)]:
                group, waits = queue.take()
                if worker not in pools:
                    pools[worker] = make(worker)
                try:
                    future = pools[worker].submit(execute_group, group, out, execution, waits)
                except BrokenProcessPool:  # it died with nothing to do
                    pools[worker] = make(worker)
                    future = pools[worker].submit(execute_group, group, out, execution, waits)
                at[future] = worker, group
            for future in wait(at, return_when=FIRST_COMPLETED).done:
                worker, group = at.pop(future)
                try:
                    outcomes = future.result()
                except BrokenProcessPool:
                    if all(first.exception() for first in started):  # each soon starts, or breaks
                        raise UndyingError(NONE_STARTS) from None
                    outcomes = [_died(config, out) for config in group]
                    pools[worker] = make(worker)
                for config, outcome in zip(group, outcomes, strict=True):
                    queue.put(config, outcome)
                    if outcome == FINISHED:
                        finished(config)
    finally:
        writer.close()  # ends the workers, see _start_worker
        for pool in pools.values():
            pool.shutdown()
    return queue.failed


def _died(config: AnyRun, out: Path) -> str:
    store = Store(out)
    store.fail(config, DIED)
    return FINISHED if store.finished(config) else FAILED


def _context(execution: Execution) -> BaseContext:
    """Workers are forked from one process, which stays and has imported what they need: that takes seconds each else. They
    are started anew where there is no fork, on GPUs, whose driver does not survive one, and where a variable that
    undying reads when it is imported has changed since."""
    forked = torch.device(execution.device).type == "cpu" and "forkserver" in multiprocessing.get_all_start_methods()
    if not forked or _read_at_import() != _read_by_the_server():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _read_at_import() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("UNDYING_")}


@functools.cache
def _read_by_the_server() -> dict[str, str]:
    return _read_at_import()


def _start_worker(parent: Connection, execution: Execution, worker: int, environment: dict[str, str]) -> None:
    os.environ.clear()  # the server has that of its own start
    os.environ.update(environment)
    prepare(execution, worker)
    _keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    threading.Thread(target=exit_with, args=(parent,), daemon=True).start()


def _keep_memory() -> None:
    """Have glibc keep freed memory for the next step: given back, and asked for again, every page of it is cleared first."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    for parameter, size in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 512 << 20)):
        mallopt(parameter, size)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
