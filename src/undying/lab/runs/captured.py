"""Forward and backward pass of a training step as a CUDA graph: recorded once, and replayed with few launches.

A recording is used only if its first replay gives what the step itself gave, bit for bit: outputs, loss, gradients, the
network's buffers, and where the generator stands. Otherwise, and where recording fails, the step goes on as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Results = tuple[Any, Tensor]
"""Outputs and loss."""
Step = Callable[[Tensor, Tensor], Results]
"""(samples, targets) -> what comes of them; it leaves the gradients in ``Parameter.grad``."""
Record = Callable[[Callable[[], Results]], tuple[Callable[[], object], Results]]
"""Run a function without executing it -> (what executes it again, the tensors in which its results then are)."""

WARM_UP = 3
"""Steps before the one at which it is recorded: libraries choose their algorithms and workspaces in them."""


def cuda_graph(step: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """A ``Record``."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    return graph.replay, results


class Captured:
    """A ``Step`` in the place of another one.

    Args:
        step: that one. What it does must depend on nothing but its inputs, the network and the generator of the device.
        model: the network; its parameters and buffers stay where they are in memory.
        record: makes a recording.
    """

    def __init__(self, step: Step, model: nn.Module, record: Record = cuda_graph) -> None:
        self.why = "no batches of the same size yet, or too few"
        """Why steps are not replayed; empty while they are."""
        self._step, self._model, self._record = step, model, record
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._alike = 0
        """Batches in a row of the size of ``_inputs``."""
        self._tried = False
        self._replay: Callable[[], object] | None = None

    def __call__(self, x: Tensor, target: Tensor) -> Results:
        if self._replay is not None and self._fits(x, target):
            return self._replayed(x, target)
        if self._tried:
            return self._step(x, target)
        due = self._is_due(x, target)
        before = self._moving(x.device) if due else []
        results = _aside(lambda: self._detached(x, target), x.device)
        if due:
            self._try(x, target, results, before)
        return results

    def _detached(self, x: Tensor, target: Tensor) -> Results:
        """Without a graph, whose nodes would tie a recording to the stream of an earlier step."""
        output, loss = self._step(x, target)
        return output.detach() if isinstance(output, Tensor) else output, loss

    def _is_due(self, x: Tensor, target: Tensor) -> bool:
        if self._inputs is None or not self._fits(x, target):
            self._inputs, self._alike = (x.clone(), target.clone()), 0
        self._alike += 1
        return self._alike > WARM_UP

    def _fits(self, x: Tensor, target: Tensor) -> bool:
        """A last batch may be smaller."""
        return self._inputs is not None and all(
            (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())
            for one, other in zip((x, target), self._inputs, strict=True)
        )

    def _replayed(self, x: Tensor, target: Tensor) -> Results:
        assert self._inputs is not None
        assert self._replay is not None
        for own, given in zip(self._inputs, (x, target), strict=True):
            own.copy_(given)
        self._replay()
        for parameter, gradient in zip(self._model.parameters(), self._gradients, strict=True):
            parameter.grad = gradient
        return self._results

    def _try(self, x: Tensor, target: Tensor, results: Results, before: list[Tensor]) -> None:
        """Record, replay, and compare with the step that was just taken; leave everything as that left it."""
        self._tried = True
        assert self._inputs is not None
        inputs = self._inputs
        gradients, after = self._grads(), self._moving(x.device)
        found = [*results, *gradients, *after]
        try:
            self._replay, self._results = self._record(lambda: self._detached(*inputs))
            self._gradients = self._grads()
            self._put_back(before, x.device)
            again = [*self._replayed(x, target), *self._grads(), *self._moving(x.device)]
            self.why = "" if all(map(_same, found, again)) else "a replay gave other numbers than the step itself"
        except Exception as error:  # what cannot be recorded can be run
            self.why = f"it cannot be recorded: {type(error).__name__}: {error}"
        if self.why:
            self._replay = None
            logging.getLogger(__name__).warning("steps are not replayed: %s", self.why)
        for parameter, gradient in zip(self._model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._put_back(after, x.device)

    def _grads(self) -> list[Tensor | None]:
        return [parameter.grad for parameter in self._model.parameters()]

    def _moving(self, device: torch.device) -> list[Tensor]:
        """What a step changes beside the gradients: the generator, whose state comes first, and the buffers."""
        generator = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
        return [generator, *(buffer.clone() for buffer in self._model.buffers())]

    def _put_back(self, moving: Sequence[Tensor], device: torch.device) -> None:
        generator, *buffers = moving
        if device.type == "cuda":
            torch.cuda.set_rng_state(generator, device)
        else:
            torch.set_rng_state(generator)
        for buffer, value in zip(self._model.buffers(), buffers, strict=True):
            buffer.copy_(value)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Bit for bit, but for which NaN it is."""
    if one is None or other is None:
        return one is other
    return torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan())


def _aside(step: Callable[[], Results], device: torch.device) -> Results:
    """On a stream of its own, as a step must be that is to be recorded later."""
    if device.type != "cuda":
        return step()
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        results = step()
    current.wait_stream(stream)
    return results
