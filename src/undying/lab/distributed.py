"""One run over several devices: a process each, with a share of every batch.

All of them draw the same batches, and gradients are averaged, so that the weights are those of one process up to
rounding. Where a network's own numbers depend on how many samples it sees at a time (batch norm) or on draws (dropout),
they differ from one process's, as they do wherever DistributedDataParallel trains.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying._base.lock import BusyError
from undying.lab.checkpoints import random_state, restore_random, seed_everything
from undying.lab.execution import Execution, exit_with, prepare
from undying.lab.process_group import SingleProcess

try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
except ModuleNotFoundError as error:
    raise UndyingError(f"--devices above 1 needs {error.name}: pip install 'undying[scale]'") from None

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # they tell of every process that they start or end
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)


class ProcessGroup(SingleProcess):
    """One of several processes."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._rank, self._count = fabric.global_rank, fabric.world_size
        self._weight = 1.0
        self.first = self._rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        return self._fabric.strategy.setup_module(model)

    def share(self, *batch: Tensor) -> tuple[Tensor, ...]:
        # Never a single sample, on which batch norm cannot train: a small batch is shared by fewer.
        size = len(batch[0])
        shares = torch.arange(size).tensor_split(max(1, min(self._count, size // 2)))
        # With none left this process still takes part: with samples of another one, and no weight.
        mine = shares[self._rank] if self._rank < len(shares) else shares[0]
        self._weight = len(mine) * self._count / size if self._rank < len(shares) else 0.0
        return tuple(part[mine[0] : mine[-1] + 1] for part in batch)

    def weighted(self, loss: Tensor) -> Tensor:
        return self._weight * loss

    def total(self, values: Tensor) -> Tensor:
        values = values if self._weight else torch.zeros_like(values)
        torch.distributed.all_reduce(values)  # Fabric's has a barrier before it, each step
        return values

    def agreed(self, value: bool) -> bool:
        return self._fabric.broadcast(value)

    @contextlib.contextmanager
    def forked_rng(self, *numbers: int) -> Iterator[None]:
        shared = random_state()
        digest = hashlib.sha256(repr((self._rank, *numbers)).encode()).digest()
        seed_everything(int.from_bytes(digest[:4], "big"))
        yield
        restore_random(shared)


def launch(function: Callable[..., Iterator[Any]], execution: Execution) -> Iterator[Any]:
    """Call ``function(execution, group=ProcessGroup)`` in a process for each device, with that device's execution. Gives what
    the first of them yields; none goes on before it has been dealt with.

    A process that raises or dies ends the others, as does the end of this one or of the iteration.

    Raises:
        UndyingError: it was raised in the first, or the devices are not there.
        OSError: it was raised in the first, by the network or the data.
        BusyError: it was raised in the first: another process trains the run.
        torch.multiprocessing.ProcessRaisedException: one raised something else; the traceback is the message.
        torch.multiprocessing.ProcessExitedException: one died.
    """
    fabric = _fabric(execution)
    here, there = multiprocessing.Pipe()
    parent, alive = multiprocessing.Pipe(duplex=False)
    rank = functools.partial(_rank, function=function, execution=execution, out=there, parent=parent)
    # Forked off a process that has imported this module and nothing else has happened in: fast, and safe with CUDA.
    multiprocessing.set_forkserver_preload([__name__])
    with ThreadPoolExecutor(1) as thread:
        launched = thread.submit(fabric.launch, rank)
        launched.add_done_callback(lambda _: there.close())  # all have ended: nothing more comes
        try:
            for item in _items(here):
                if isinstance(item, Exception):
                    raise item
                yield item
            launched.result()
        finally:
            alive.close()  # ends those that are left, see exit_with
            here.close()


def _items(here: Connection) -> Iterator[Any]:
    """What the first process sends, until all have ended; each is answered when the next is asked for."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield pickle.loads(here.recv_bytes())
            here.send_bytes(b"")


def _fabric(execution: Execution) -> Fabric:
    devices: int | list[int] = execution.devices
    if torch.device(execution.device).type == "cuda":
        count = torch.cuda.device_count()
        if execution.devices > count:
            raise UndyingError(f"--devices {execution.devices} needs as many GPUs, and this machine has {count}")
        devices = [(torch.cuda.current_device() + i) % count for i in range(execution.devices)]
    # These would be taken for the address of processes of somebody else's.
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    # With unused parameters allowed gradients also stay in the same buckets from the first step on, so that a run that
    # is taken up again adds in the same order. That there are none is not worth a warning.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    strategy = DDPStrategy(
        cluster_environment=LightningEnvironment(), start_method="forkserver", find_unused_parameters=True
    )
    return Fabric(accelerator=torch.device(execution.device).type, devices=devices, strategy=strategy)


def _rank(
    fabric: Fabric, function: Callable[..., Iterator[Any]], execution: Execution, out: Connection, parent: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    threading.Thread(target=exit_with, args=(parent,), daemon=True).start()
    workers = execution.slots * execution.devices
    execution = replace(execution, device=str(fabric.device), devices=1, workers=workers)
    prepare(execution)
    group = ProcessGroup(fabric)
    try:
        for item in function(execution, group=group):
            if group.first:
                out.send_bytes(pickle.dumps(item))
                out.recv_bytes()
    except (UndyingError, OSError, BusyError) as error:
        if not group.first:
            time.sleep(5)  # the first has met the same, most likely, and its word ends this process
            raise
        out.send_bytes(pickle.dumps(error))
    torch.distributed.destroy_process_group()
