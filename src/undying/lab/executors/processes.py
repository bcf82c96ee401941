"""Runs in processes of this machine, one a core or one a GPU."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import torch

from undying.lab.execution import Execution, exit_with, prepare
from undying.lab.executors.work import DIED, FAILED, FINISHED, Queue, execute
from undying.lab.settings import AnyRun
from undying.lab.store import Store

PRELOADED = [
    "undying.lab.executors.work",
    "undying.lab.runs.classification",
    "sklearn.datasets",
    "sklearn.model_selection",
]
"""What the workers of ``undying compare`` import, none of it a user's own."""


def run_in_processes(
    configs: Sequence[AnyRun], out: Path, execution: Execution, finished: Callable[[AnyRun], None]
) -> list[AnyRun]:
    """Execute ``configs``; ``finished`` is called here after each. Returns those that failed twice.

    Interrupted (Ctrl-C), it stops the workers at once; runs that have finished stay.
    """
    context = _context(execution)
    reader, writer = context.Pipe(duplex=False)

    def make(slot: int) -> ProcessPoolExecutor:
        # One process each, since one that dies breaks its whole pool.
        return ProcessPoolExecutor(1, context, _start_worker, (reader, execution, slot, dict(os.environ)))

    pools = {slot: make(slot) for slot in range(min(execution.slots, len(configs)))}
    queue = Queue(configs)
    at: dict[Future[str], tuple[int, AnyRun]] = {}
    try:
        while queue.waiting or at:
            idle = pools.keys() - {slot for slot, _ in at.values()}
            for slot in sorted(idle)[: len(queue.waiting)]:
                config, waits = queue.take()
                try:
                    future = pools[slot].submit(execute, config, out, execution, waits)
                except BrokenProcessPool:  # it died with nothing to do
                    pools[slot] = make(slot)
                    future = pools[slot].submit(execute, config, out, execution, waits)
                at[future] = slot, config
            for future in wait(at, return_when=FIRST_COMPLETED).done:
                slot, config = at.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    Store(out).fail(config, DIED)
                    pools[slot] = make(slot)
                    outcome = FAILED
                queue.put(config, outcome)
                if outcome == FINISHED:
                    finished(config)
    finally:
        writer.close()  # ends the workers, see _start_worker
        for pool in pools.values():
            pool.shutdown()
    return queue.failed


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


def _start_worker(parent: Connection, execution: Execution, slot: int, environment: dict[str, str]) -> None:
    os.environ.clear()  # the server has that of its own start
    os.environ.update(environment)
    prepare(execution, slot)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    threading.Thread(target=exit_with, args=(parent,), daemon=True).start()
