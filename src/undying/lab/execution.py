"""Where and how runs are executed: nothing here decides a number, rounding of another device apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from undying.errors import UndyingError
from undying.lab.recipe import one_of

EXECUTORS = ("processes", "submitit", "ray")


def default_workers(device: str = "cpu") -> int:
    """One a core that this process may use, or one a GPU."""
    if torch.device(device).type == "cuda":
        return max(1, torch.cuda.device_count())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Execution:
    """How runs are executed."""

    workers: int | None = None
    """Runs at a time; default: one a core, or one a GPU."""
    executor: str = "processes"
    """Where runs are executed: processes (of this machine), submitit (Slurm) or ray (a Ray cluster)."""
    job: tuple[str, ...] = ()
    """What a submitit job asks for, in submitit's words: timeout_min=240 slurm_partition=gpu gpus_per_node=1."""
    device: str = "cpu"
    """Device: cpu, cuda (each run on a GPU of its own) or another of torch's."""
    channels_last: bool = False
    """Keep images and convolutions with the channels last in memory, which some devices run faster."""
    compile: bool = False
    """Train through torch.compile."""
    deterministic: bool = True
    """Take only algorithms that give the same numbers every time."""
    data_root: Path | None = None
    """Folder for downloaded data; default: $UNDYING_DATA, else undying in the user's cache."""
    checkpoint_seconds: float = 60.0
    """Keep the state of a run so often, so that a killed one goes on from there."""
    tensorboard: Path | None = None
    """Also write each finished run's metrics by epoch to this folder, for TensorBoard."""
    wandb: str = ""
    """Also log each finished run's metrics by epoch to this Weights & Biases project; offline with WANDB_MODE=offline."""

    def __post_init__(self) -> None:
        one_of("executor", self.executor, EXECUTORS)
        if self.workers is not None and self.workers < 1:
            raise UndyingError(f"--workers must be at least 1, not {self.workers}")
        for word in self.job:
            if not all(word.partition("=")):
                raise UndyingError(f"--job {word!r} must be key=value, as in timeout_min=240")
        if not self.checkpoint_seconds >= 0:
            raise UndyingError(f"--checkpoint-seconds must be at least 0, not {self.checkpoint_seconds}")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UndyingError(f"--device {self.device!r} cannot be used here: {reason}") from None

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return self.workers or default_workers(self.device)
