"""What every executor does for one run, in whatever process it starts for it."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from undying._base.errors import UndyingError
from undying._base.lock import BusyError
from undying._version import __version__
from undying.lab.execution import Execution, prepare
from undying.lab.runs.kind import kind_of, together_of
from undying.lab.settings import AnyRun
from undying.lab.store import Recording, Store
from undying.ops import native

FINISHED, BUSY, FAILED, ALONE = "finished", "busy", "failed", "alone"
MOST = 10
"""Runs that are trained together: with more of them a step takes no less time each, and their weights leave the caches."""
DIED = "the process died, killed or out of memory"


class Queue:
    """Runs to be done, in groups that are tried together: what cannot be comes alone, what fails comes once more, and what
    others are at comes last, to be waited for then."""

    def __init__(self, groups: Iterable[Sequence[AnyRun]]) -> None:
        self.waiting = deque(tuple(group) for group in groups)
        self.failed: list[AnyRun] = []
        """Those that failed twice."""
        self._tried: set[AnyRun] = set()
        self._busy: set[AnyRun] = set()

    def take(self) -> tuple[tuple[AnyRun, ...], bool]:
        """The next runs, and whether to wait for another process that trains it: that one may die."""
        configs = self.waiting.popleft()
        return configs, configs[0] in self._busy

    def put(self, config: AnyRun, outcome: str) -> None:
        """What became of a run that was taken."""
        if outcome == BUSY:
            self._busy.add(config)
            self.waiting.append((config,))
        elif outcome == ALONE:
            self.waiting.appendleft((config,))  # before those that are waited for
        elif outcome == FAILED:
            if config in self._tried:
                self.failed.append(config)
            else:
                self.waiting.append((config,))
            self._tried.add(config)


def groups_of(configs: Sequence[AnyRun], out: Path, execution: Execution) -> list[tuple[AnyRun, ...]]:
    """The runs that are to be tried together, of at most so many that every worker has some: those that differ in their seed
    alone and are at their beginning. A run alone is a group too."""
    if execution.together == "off":
        return [(config,) for config in configs]
    store = Store(out)
    alike: dict[tuple[bool, AnyRun], list[AnyRun]] = {}
    for config in configs:
        together = together_of(config)
        may = together is not None and together.may_train_together(config, execution)
        begins = may and not store.has_checkpoint(config)
        alike.setdefault((begins, replace(config, seed=0) if begins else config), []).append(config)
    most = min(MOST, max(1, len(configs) // execution.runs_at_once))
    groups = []
    for runs in alike.values():
        count = math.ceil(len(runs) / most)
        groups += [tuple(runs[len(runs) * i // count : len(runs) * (i + 1) // count]) for i in range(count)]
    return sorted(groups, key=lambda group: group[0].seed)  # seeds that all arms have come first


def execute_group(configs: Sequence[AnyRun], out: Path, execution: Execution, wait: bool) -> list[str]:
    """Train runs and store them, several of them together; see ``execute``, which does it with one. ``ALONE`` is what is to
    be given to that: their network does not allow it, or something went wrong, of which it will say in which run it was."""
    if len(configs) == 1:
        return [execute(configs[0], out, execution, wait)]
    outcomes = dict.fromkeys(configs, ALONE)
    try:
        _train_together(outcomes, Store(out), execution)
    except (UndyingError, KeyboardInterrupt):
        raise
    except BaseException:  # AloneError, or whatever a network raises
        pass
    return list(outcomes.values())


def _train_together(outcomes: dict[AnyRun, str], store: Store, execution: Execution) -> None:
    """Put in what becomes of each run, as soon as it is known."""
    configs = list(outcomes)
    kind_of(configs[0]).check(configs[0], execution)
    together = together_of(configs[0])
    assert together is not None
    records = _records(configs[0], execution)
    with contextlib.ExitStack() as all_held:
        held: dict[AnyRun, tuple[Recording, contextlib.ExitStack]] = {}
        for config in configs:
            own = all_held.enter_context(contextlib.ExitStack())
            seconds = execution.checkpoint_seconds
            try:
                recording = own.enter_context(store.recording(config, records, checkpoint_seconds=seconds, wait=False))
            except BusyError:
                outcomes[config] = BUSY
                continue
            if recording is None:
                outcomes[config] = FINISHED
            elif recording.epochs:  # another process began it, and it goes on from there
                own.close()
            else:
                held[config] = recording, own
        begun = list(held)
        if len(begun) < 2:
            return
        checkpoints = [held[config][0].checkpoint for config in begun]
        for index, epoch in together.train_together(begun, execution, checkpoints):
            config = begun[index]
            if config not in held:  # others have taken it over
                continue
            recording, own = held[config]
            try:
                recording.add(epoch)
                if epoch.diverged or epoch.metrics["epoch"] == config.epochs:
                    recording.finish()
                    outcomes[config] = FINISHED
            except BusyError:
                outcomes[config] = BUSY
            if outcomes[config] != ALONE:
                own.close()
                del held[config]


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
            _records(config, execution),
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


def _records(config: AnyRun, execution: Execution) -> dict[str, Any]:
    kind = kind_of(config)
    return {
        "environment": {**environment(execution), **kind.versions()},
        "data": kind.describe(config, execution),
    }


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
