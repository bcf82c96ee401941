"""Bytes kept for the backward pass, and the peak of a training step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from undying.bench.networks import NETWORK_BASELINE, NETWORK_FORMS, Workload, workload
from undying.bench.settings import NetworkSettings, choose

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """What one form takes in one network."""

    model: str
    form: str
    kept: int
    """Bytes kept for the backward pass: distinct storages, without the parameters and buffers."""
    peak: int
    """Most bytes of one forward and backward pass above what was there before, gradients included."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_memory(settings: NetworkSettings, started: Callable[[str], object] = print) -> Iterator[Memory]:
    """Every form in every network of the settings."""
    settings.check()
    for name in settings.models:
        for form in choose(settings.forms, NETWORK_FORMS, always=NETWORK_BASELINE):
            started(f"{name}, {form.name}")
            work = workload(name, form, settings.batch, settings.side, settings.seed, settings.device)
            yield Memory(
                name, form.name, kept(work.loss, [*work.model.parameters(), *work.model.buffers()]), peak(work)
            )


def kept(forward: Callable[[], Tensor], without: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct storages that ``forward`` saves for its backward pass, but for those of ``without``.

    >>> x = torch.ones(100, requires_grad=True)
    >>> kept(lambda: x.exp())  # its result
    400
    >>> kept(lambda: x * x)  # x, once
    400
    """
    ignored = {tensor.untyped_storage().data_ptr() for tensor in without}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for address, storage in storages.items() if address not in ignored)


def peak(work: Workload) -> int:
    """Most bytes that one forward and backward pass holds above what was there before, by PyTorch's own allocator."""
    work.loss().backward()  # what is made once is made here
    work.model.zero_grad()
    if work.images.device.type != "cpu":
        return _peak_of_a_gpu(work)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell the terminal that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work.loss().backward()
    work.model.zero_grad()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _peak_of_a_gpu(work: Workload) -> int:
    device = work.images.device
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work.loss().backward()
    most = torch.cuda.max_memory_allocated(device)
    work.model.zero_grad()
    return most - before


def node_name(output: Tensor) -> str:
    """The autograd node of ``output``: it shows what will compute its backward pass."""
    if output.grad_fn is None:
        return "none"
    return output.grad_fn.name() + (", by a kernel" if getattr(output.grad_fn, "kernel", None) else "")
