"""What a measurement ran on: without it a figure means nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from undying._version import __version__


@dataclass(frozen=True)
class Machine:
    """The machine and the versions of one measurement."""

    processor: str
    cores: int
    """Those that this process may use."""
    threads: int
    """Those that torch uses by default."""
    instructions: str
    """The instruction set that torch's own kernels use, such as AVX512."""
    system: str
    python: str
    torch: str
    undying: str
    commit: str
    """Of undying's source, with ``+`` if it was changed since; empty if it is not a git checkout."""
    gpu: str = ""
    """Its name; empty without one."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        commit = f" ({self.commit})" if self.commit else ""
        return (
            f"{f'{self.gpu}; ' if self.gpu else ''}{self.processor}, {self.cores} cores, {self.instructions}, "
            f"{self.system}; Python {self.python}, "
            f"torch {self.torch} with {self.threads} threads, undying {self.undying}{commit}"
        )


def describe() -> Machine:
    """This machine, now."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        undying=__version__,
        commit=_commit(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    )


def _processor() -> str:
    """Its model name; what Python knows where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    here = Path(__file__).parent
    try:
        # The package itself must be under version control, not a folder around an environment that holds it.
        tracked = _git(here, "ls-files", "--error-unmatch", "machine.py")
        return _git(here, "describe", "--always", "--dirty=+", "--exclude=*") if tracked else ""
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
