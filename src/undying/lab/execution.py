"""Where and how runs are executed: nothing here decides a number, rounding of another device apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from undying._base.errors import UndyingError
from undying.lab.recipe import one_of

TOGETHER = ("auto", "off")
EXECUTORS = ("processes", "submitit", "ray")


def default_workers(device: str = "cpu", devices: int = 1) -> int:
    """One for each ``devices`` of the cores that this process may use, or of the GPUs."""
    if torch.device(device).type == "cuda":
        there = torch.cuda.device_count()
    else:
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // devices)


@dataclass(frozen=True)
class Execution:
    """How runs are executed."""

    workers: int | None = None
    """Runs at a time; default: one per core or GPU, or one per --devices of them."""
    executor: str = "processes"
    """Where runs are executed: processes (on this machine), submitit (Slurm) or ray (a Ray cluster)."""
    job: tuple[str, ...] = ()
    """What each submitit job asks for, as submitit names it: timeout_min=240 slurm_partition=gpu gpus_per_node=1."""
    together: str = "auto"
    """Train runs that differ only in their seed at once: auto (where that changes no bit of any run, see docs/compare.md)
    or off."""
    device: str = "cpu"
    """Device: cpu, cuda (a GPU for each run) or another of torch's."""
    devices: int = 1
    """Cores or GPUs that each run is spread over by DistributedDataParallel. Each trains on its share of every
    batch."""
    channels_last: bool = False
    """Store images and convolutions with the channels last, which is faster on some devices."""
    compile: bool = False
    """Train through torch.compile."""
    captured: bool = False
    """On a GPU, replay the forward and backward pass of a step as a CUDA graph, where a replay gave the same numbers as the
    step itself."""
    deterministic: bool = True
    """--no-deterministic also allows algorithms whose numbers differ from run to run. Without it, only those are used that
    always give the same numbers."""
    data_root: Path | None = None
    """Folder for downloaded data; default: $UNDYING_DATA, or else undying in the user's cache."""
    checkpoint_seconds: float = 60.0
    """Save the state of a run every so many seconds. It is resumed from there after a stop or a crash."""
    tensorboard: Path | None = None
    """Also write the metrics of each finished run, by epoch, to this folder for TensorBoard."""
    wandb: str = ""
    """Also log the metrics of each finished run, by epoch, to this Weights & Biases project. WANDB_MODE=offline keeps
    them on this machine."""

    def __post_init__(self) -> None:
        if self.executor == "slurm":
            raise UndyingError("unknown --executor 'slurm'; for Slurm it is submitit")
        one_of("executor", self.executor, EXECUTORS)
        one_of("together", self.together, TOGETHER)
        if self.workers is not None and self.workers < 1:
            raise UndyingError(f"--workers must be at least 1, not {self.workers}")
        if self.devices < 1:
            raise UndyingError(f"--devices must be at least 1, not {self.devices}")
        for word in self.job:
            if not all(word.partition("=")):
                raise UndyingError(f"--job {word!r} must be key=value, as in timeout_min=240")
        if not self.checkpoint_seconds >= 0:
            raise UndyingError(f"--checkpoint-seconds must be at least 0, not {self.checkpoint_seconds}")
        if self.devices > 1 and self.device not in ("cpu", "cuda"):
            raise UndyingError(f"--devices {self.devices} goes with --device cpu or cuda, not {self.device!r}")
        if self.captured and (not self.device.startswith("cuda") or self.devices > 1 or self.compile):
            raise UndyingError("--captured goes with --device cuda, one of --devices, and without --compile")
        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device).item()  # a device such as meta holds no numbers
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UndyingError(f"--device {self.device!r} cannot be used here: {reason}") from None

    @property
    def runs_at_once(self) -> int:
        """Runs at a time."""
        return self.workers or default_workers(self.device, self.devices)


def prepare(execution: Execution, worker: int = 0) -> None:
    """Make this process ready for runs: one thread each on a CPU, so that cores are not oversubscribed and numbers do
    not depend on how many there are; on GPUs the ``worker``-th (of as many ``devices``), and a fair share of
    the threads."""
    device = torch.device(execution.device)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if ":" not in execution.device:
            torch.cuda.set_device(worker * execution.devices % torch.cuda.device_count())
    on_cpu = device.type == "cpu"
    torch.set_num_threads(
        1 if on_cpu else max(1, (os.cpu_count() or 1) // (execution.runs_at_once * execution.devices))
    )
    torch.use_deterministic_algorithms(execution.deterministic)
    # What is not set is overwritten anyway; setting it first takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def exit_with(parent: Connection) -> None:
    """End this process when the parent closes its end of the pipe or dies, however it dies."""
    try:
        parent.recv()
    except EOFError:
        os._exit(1)
