"""Who trains a run, among processes and machines that share a folder.

A holder creates ``.lease.N`` atomically and touches it as long as it lives. A dead holder's lock is not taken away:
whoever goes on creates ``.lease.N+1``, which again only one can. The highest number holds.

filelock's ``SoftFileLease`` (4.3.1) does not do it: an empty lock file, which a crashed machine can leave, is never taken
over, nor is any dead holder's where two files cannot be exchanged by a rename (NFS), and a zombie counts as alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

BEAT = 5.0
"""Seconds between two touches."""
STALE = 60.0
"""Seconds without a touch after which a holder on another machine is taken for dead."""


class BusyError(Exception):
    """Another process holds the lock."""


class Lock:
    """Context manager that holds ``folder`` for this process.

    Args:
        folder: what is held.
        wait: wait for a living holder to let go; otherwise raise ``BusyError``.
    """

    def __init__(self, folder: Path, wait: bool = True) -> None:
        self._folder, self._wait = folder, wait
        self._done = threading.Event()

    def __enter__(self) -> Lock:
        watched: tuple[Path, int] | None = None
        while True:
            highest = _highest(self._folder)
            if highest is None or _dead(highest):
                if self._claim(highest):
                    return self
                continue
            if not self._wait:
                raise BusyError
            # Its age is measured here, by this machine's clock alone: clocks of machines differ.
            seen = highest, _touched(highest)
            if seen != watched:
                watched, since = seen, time.monotonic()
            elif time.monotonic() - since > STALE and self._claim(highest):
                return self
            time.sleep(0.2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._beating.join()
        self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises BusyError if another process took this one for dead and went on."""
        if _highest(self._folder) != self._path:
            raise BusyError

    def _claim(self, after: Path | None) -> bool:
        self._path = self._folder / f".lease.{_number(after) + 1 if after else 1}"
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}, file)
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return True

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path)


def locked(folder: Path) -> bool:
    """Whether a process is at ``folder``, as far as a single look can tell: of another machine, it has touched its lock
    lately by this machine's clock."""
    highest = _highest(folder)
    return highest is not None and not _dead(highest) and time.time() - _touched(highest) / 1e9 <= STALE


def clear(folder: Path) -> None:
    """Remove what dead holders left, once nobody will ask for ``folder`` again."""
    for path in folder.glob(".lease.*"):
        path.unlink(missing_ok=True)


def _highest(folder: Path) -> Path | None:
    return max(folder.glob(".lease.*"), key=_number, default=None)


def _number(path: Path) -> int:
    return int(path.suffix[1:])


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _dead(path: Path) -> bool:
    """Whether the holder was a process of this machine that is no more. Of other machines only time can tell."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False  # let go this moment
    except ValueError:
        return False  # not written yet, or never will be; time will tell
    if holder["machine"] != _machine():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # somebody else's, alive
    return bool(holder["started"] != _started(holder["pid"]))  # the number was given to another process


def _machine() -> str:
    """Where a process number means a certain process: containers of one machine may have numbers of their own."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """When a process started, in the kernel's count; empty where that is not to be had."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    # A zombie is dead, though it has its number still.
    return "" if fields[0] == "Z" else fields[19]
