"""Run configs over a store. Today: processes on one machine, one run a core."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from undying._version import __version__
from undying.errors import UndyingError
from undying.lab.settings import RunConfig
from undying.lab.store import Store
from undying.lab.training import train


def default_workers() -> int:
    """One a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_processes(
    configs: Sequence[RunConfig], out: Path, workers: int, finished: Callable[[RunConfig], None]
) -> None:
    """Execute ``configs`` in ``workers`` processes of one thread each; ``finished`` is called here after each.

    Interrupted (Ctrl-C), or when a run fails, it stops the workers at once; runs that have finished stay.

    Raises:
        UndyingError: a run failed for a reason the user can mend, or a worker was killed.
    """
    if not configs:
        return
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with ProcessPoolExecutor(min(workers, len(configs)), context, _start_worker, (reader,)) as pool:
        futures = {pool.submit(_execute, config, out): config for config in configs}
        try:
            for future in as_completed(futures):
                future.result()
                finished(futures[future])
        except BaseException as error:
            writer.close()  # ends the workers, see _start_worker, and with them every future
            if isinstance(error, BrokenProcessPool):
                raise UndyingError(
                    "a worker process died, killed or out of memory; finished runs are kept: "
                    "give the same command to go on, with fewer --workers if memory is short"
                ) from None
            raise


def _start_worker(parent: Connection) -> None:
    """One thread a run, so that cores are not oversubscribed and numbers do not depend on how many there are."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: Connection) -> None:
    """End this process when the parent closes its end of the pipe or dies, however it dies."""
    try:
        parent.recv()
    except EOFError:
        os._exit(1)


def _execute(config: RunConfig, out: Path) -> None:
    try:
        Store(out).execute(config, train, environment())
    except OSError as error:
        raise UndyingError(
            f"cannot write run {config.id} ({config.activation}, seed {config.seed}) to {out}: {error.strerror}; "
            "finished runs are kept: make room or mend the folder and give the same command to go on"
        ) from None


def environment() -> dict[str, str]:
    """Versions and machine."""
    return {
        "undying": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
