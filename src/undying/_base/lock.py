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
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from undying._base.errors import UndyingError
from undying._base.files import clear_temporary, write_bytes

BEAT = 5.0
"""Seconds between two touches."""
STALE = 60.0
"""Seconds without a touch after which a holder on another machine is taken for dead."""
_LEASE = re.compile(r"\.lease\.[0-9]{1,9}")


class BusyError(Exception):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Held:
    """A folder that this process holds, for those that write into it; other processes of a run may have a copy."""

    lease: Path

    def check(self) -> None:
        """Raises BusyError if another process took this one for dead and went on."""
        if _highest(self.lease.parent) != self.lease:
            raise BusyError

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put a file into the folder. One that was stopped for long, and is not the holder any more, leaves no trace.

        Raises:
            BusyError: another process holds the folder.
            UndyingError: the file cannot be written.
        """
        path = self.lease.with_name(name)
        with writing(path):
            try:
                write_bytes(path, content, self.check)
            except OSError:
                self.check()  # the other one may have cleared the folder
                raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong with a file of a run in it is an UndyingError; what goes wrong elsewhere is not the folder's fault."""
    try:
        yield
    except OSError as error:
        raise UndyingError(
            f"cannot write {path}: {error.strerror}; finished runs are kept: make room or mend the folder, then run the "
            "same command again to resume"
        ) from None


class Lock:
    """Context manager that holds ``folder`` for this process.

    Args:
        folder: what is held.
        wait: wait for a living holder to let go; otherwise raise ``BusyError``.

    Raises:
        BusyError: see ``wait``.
        UndyingError: the folder cannot be written.
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
        with contextlib.suppress(OSError):
            self.held.lease.unlink()

    def _claim(self, after: Path | None) -> bool:
        self.held = Held(self._folder / f".lease.{_number(after) + 1 if after else 1}")
        with writing(self.held.lease):
            try:
                file = self.held.lease.open("x", encoding="utf-8")
            except FileExistsError:
                return False
            with file:
                json.dump({"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}, file)
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return True

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.held.lease)


def locked(folder: Path) -> bool:
    """Whether a process is at ``folder``, as far as a single look can tell: of another machine, it has touched its lock
    lately by this machine's clock."""
    highest = _highest(folder)
    return highest is not None and not _dead(highest) and time.time() - _touched(highest) / 1e9 <= STALE


def clear(folder: Path) -> None:
    """Remove what dead holders left, once nobody will ask for ``folder`` again."""
    clear_temporary(folder)
    for path in _leases(folder):
        path.unlink(missing_ok=True)


def _highest(folder: Path) -> Path | None:
    return max(_leases(folder), key=_number, default=None)


def _leases(folder: Path) -> list[Path]:
    """Files that others put beside them (``.lease.1~``) are none."""
    return [path for path in folder.glob(".lease.*") if _LEASE.fullmatch(path.name)]


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
        machine, pid, started = (holder[key] for key in ("machine", "pid", "started"))
        if machine != _machine():
            return False
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # let go this moment, not to be read, or somebody else's process and alive
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return False  # not written yet, or never will be; time will tell
    return bool(started != _started(pid))  # the number was given to another process


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
