"""What every executor does for one run, in whatever process it starts for it."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from undying._base.errors import UndyingError
from undying._base.lock import BusyError
from undying._version import __version__
from undying.lab.execution import Execution, prepare
from undying.lab.runs.kind import kind_of
from undying.lab.settings import AnyRun
from undying.lab.store import Store
from undying.ops import native

FINISHED, BUSY, FAILED = "finished", "busy", "failed"
DIED = "the process died, killed or out of memory"


class Queue:
    """Runs to be done: what fails comes once more, and what others are at comes last, to be waited for then."""

    def __init__(self, configs: Iterable[AnyRun]) -> None:
        self.waiting = deque(configs)
        self.failed: list[AnyRun] = []
        """Those that failed twice."""
        self._tried: set[AnyRun] = set()
        self._busy: set[AnyRun] = set()

    def take(self) -> tuple[AnyRun, bool]:
        """The next run, and whether to wait for another process that trains it: that one may die."""
        config = self.waiting.popleft()
        return config, config in self._busy

    def put(self, config: AnyRun, outcome: str) -> None:
        """What became of a run that was taken."""
        if outcome == BUSY:
            self._busy.add(config)
            self.waiting.append(config)
        elif outcome == FAILED:
            (self.failed if config in self._tried else self.waiting).append(config)
            self._tried.add(config)


def execute(config: AnyRun, out: Path, execution: Execution, wait: bool) -> str:
    """Train one run and store it. Returns ``FINISHED``; ``BUSY``, if another process is at it and ``wait`` is False; or
    ``FAILED``, with the error in the run's folder.

    Raises:
        UndyingError: what concerns every run: the data changed, the network does not fit them, the disk is full.
    """
    store = Store(out)
    try:
        kind = kind_of(config)
        kind.check(config, execution)
        store.execute(
            config,
            lambda config, checkpoint: kind.train(config, execution, checkpoint),
            {
                "environment": {**environment(execution), **kind.versions()},
                "data": kind.describe(config, execution),
            },
            checkpoint_seconds=execution.checkpoint_seconds,
            wait=wait,
        )
    except BusyError:
        return BUSY
    except (UndyingError, KeyboardInterrupt):
        raise
    except BaseException:  # a network may call sys.exit
        store.fail(config, traceback.format_exc().rstrip())
        return FAILED
    return FINISHED


def execute_elsewhere(
    config: AnyRun, out: Path, execution: Execution, wait: bool, paths: Sequence[str]
) -> tuple[str, str]:
    """The same in a process that another library started, with the caller's ``sys.path``.

    Returns:
        (outcome, message): the message of an UndyingError, which would not come through in one piece; else empty.
    """
    sys.path.extend(path for path in paths if path not in sys.path)
    prepare(execution)
    try:
        return execute(config, out, execution, wait), ""
    except UndyingError as error:
        return FAILED, str(error)


def environment(execution: Execution) -> dict[str, str]:
    """Versions and machine, and over how many devices a run is spread, if over several."""
    return {
        "undying": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        # These two decide how numbers are rounded, which a processor's name does not tell.
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "kernels": native.instructions() or "none",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        **({"devices": str(execution.devices)} if execution.devices > 1 else {}),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
