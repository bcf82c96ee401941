"""Run a network and leave it as it was."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from undying._torch import version_of


def device_of(model: nn.Module) -> torch.device | None:
    """The device of the first parameter; None without parameters."""
    parameter = next(model.parameters(), None)
    return None if parameter is None else parameter.device


_under_way = threading.local()


def is_preserving() -> bool:
    """Whether a network is being run to be left as it was, in this thread: to be looked at, not to be trained."""
    return getattr(_under_way, "depth", 0) > 0


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    _under_way.depth = getattr(_under_way, "depth", 0) + 1
    try:
        yield
    finally:
        _under_way.depth -= 1


@contextlib.contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Afterwards restore training flags, buffers, tensors held as attributes, and the random number generators of
    Python, NumPy and torch. Where a module's ``train`` does work of its own (it merges or fuses weights), restore
    everything that the module and its children hold.

    A graph of a forward pass before stays good: the network runs on copies of its buffers, and nothing is written to the
    originals.
    """
    modules = list(model.modules())
    training = {module: module.training for module in modules}
    attributes = [(m, name, v) for m in modules for name, v in vars(m).items() if isinstance(v, Tensor)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_noted())
        stack.enter_context(_random_state(model))
        # Undone in the opposite order: contents first, since they hold flags and buffers of their own.
        stack.callback(_restore_flags, training)
        stack.callback(_restore_attributes, attributes)
        stack.enter_context(_buffers_copied(modules))
        stack.enter_context(_contents_kept(modules))
        yield


def _restore_flags(training: dict[nn.Module, bool]) -> None:
    for module, flag in training.items():
        module.training = flag


def _restore_attributes(attributes: list[tuple[nn.Module, str, Tensor]]) -> None:
    for module, name, value in attributes:
        vars(module)[name] = value


@contextlib.contextmanager
def _buffers_copied(modules: list[nn.Module]) -> Iterator[None]:
    """The network works on copies of its buffers; afterwards it has the originals again, with the values they had."""
    originals = [
        (module, name, buffer)
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer)
    ]
    # A buffer that two modules share is one copy, too.
    # An inference tensor has no version and cannot be written outside inference mode: nothing to restore.
    writable = [buffer for _, _, buffer in originals if not buffer.is_inference()]
    saved = {id(buffer): (buffer, version_of(buffer), buffer.clone()) for buffer in writable}
    copies = {key: copy.clone() for key, (_, _, copy) in saved.items()}
    for module, name, buffer in originals:
        module._buffers[name] = copies.get(id(buffer), buffer)
    try:
        yield
    finally:
        for module, name, buffer in originals:
            module._buffers[name] = buffer
        for buffer, version, copy in saved.values():
            if version_of(buffer) != version:  # written past the module, by somebody who holds the tensor itself
                with torch.no_grad():
                    buffer.copy_(copy)


@contextlib.contextmanager
def _contents_kept(modules: list[nn.Module]) -> Iterator[None]:
    """What modules hold whose ``train`` does more than to set flags, and their children: attributes and weights."""
    working = [module for module in modules if _trains_its_own_way(module)]
    inside = dict.fromkeys(child for module in working for child in module.modules())
    held = [(module, _shallow(vars(module))) for module in inside]
    weights = {
        id(p): (p, p.detach().clone()) for module in inside for p in module._parameters.values() if p is not None
    }
    try:
        yield
    finally:
        for module, contents in held:
            _put_back(vars(module), contents)
        with torch.no_grad():
            for parameter, copy in weights.values():
                if not torch.equal(parameter, copy):
                    parameter.copy_(copy)


def _trains_its_own_way(module: nn.Module) -> bool:
    return type(module).train is not nn.Module.train or "train" in vars(module)


def _shallow(contents: dict[str, Any]) -> dict[str, Any]:
    """With copies of the dictionaries in it, which hold parameters, buffers, children and hooks."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in contents.items()}


def _put_back(contents: dict[str, Any], before: dict[str, Any]) -> None:
    for name in contents.keys() - before.keys():
        del contents[name]
    for name, value in before.items():
        if isinstance(value, dict) and isinstance(contents.get(name), dict):
            # Into the same object: the handles that remove hooks hold on to it.
            contents[name].clear()
            contents[name].update(value)
        else:
            contents[name] = value


@contextlib.contextmanager
def _random_state(model: nn.Module) -> Iterator[None]:
    device = device_of(model)
    devices = [] if device is None or device.type in ("cpu", "meta") else [device]
    python = random.getstate()
    numpy = sys.modules.get("numpy.random")  # not imported, it has no state to keep
    state = numpy.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(devices, device_type=devices[0].type if devices else "cuda"):
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.set_state(state)
