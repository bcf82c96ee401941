"""Forward and backward of one activation on one tensor, in every form, beside nn.ReLU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undying._torch import not_a_view
from undying.bench.forms import BASELINE, FORMS, LIMIT, Form
from undying.bench.memory import kept, node_name
from undying.bench.settings import DTYPES, ActivationSettings, choose, clock, in_turn, inductor
from undying.bench.timing import Ratio, Timings, measure


@dataclass(frozen=True)
class Case:
    """One size, type and number of threads: every form's timings, side by side."""

    size: int
    dtype: str
    threads: int
    timings: Timings
    nodes: dict[str, str]
    """Form -> the autograd node of its output, which shows what computes its backward pass."""
    kept: dict[str, int]
    """Form -> bytes kept for the backward pass."""

    def ratio(self, name: str, to: str = BASELINE) -> Ratio | None:
        """None where one of the two was not measured."""
        measured = self.timings.samples
        return self.timings.ratio(name, to) if name in measured and to in measured else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "dtype": self.dtype,
            "threads": self.threads,
            "forms": {
                name: {
                    "seconds": self.timings.seconds(name),
                    "ratio": self.timings.ratio(name, BASELINE).to_dict(),
                    "kept_bytes": self.kept.get(name),
                    "backward_node": self.nodes.get(name),
                }
                for name in self.timings.samples
            },
        }


def measure_activations(
    settings: ActivationSettings, started: Callable[[str], object] = print, *, backward: bool = True
) -> Iterator[Case]:
    """Every case of the settings, in turn; ``started`` is told what begins. The number of threads is put back.

    Without ``backward`` the forward pass is timed alone, with what it keeps for a backward pass.
    """
    settings.check()
    alone = [form for form in FORMS if form.alone and not (form.compiled and settings.no_compiled)]
    forms = choose(settings.forms, alone, always=BASELINE)
    for threads in in_turn(settings.threads):
        for dtype in settings.dtypes:
            for size in settings.sizes:
                started(f"{int(size):,} elements, {dtype}, {threads} thread{'s' * (threads > 1)}")
                yield _case(forms, int(size), dtype, threads, settings, backward)


def _case(forms: list[Form], size: int, dtype: str, threads: int, settings: ActivationSettings, backward: bool) -> Case:
    torch.compiler.reset()  # or the next size would be compiled as a variable one, and soon not at all
    generator = torch.Generator().manual_seed(settings.seed)
    x = torch.randn(size, generator=generator).to(settings.device, DTYPES[dtype])
    grad = torch.randn(size, generator=generator).to(settings.device, DTYPES[dtype])
    steps: dict[str, Callable[[], object]] = {LIMIT: _limit(x, grad)}
    nodes, bytes_kept = {}, {}
    for form in forms:
        forward, leaf = _forward(form, x, threads)
        nodes[form.name] = node_name(forward())
        bytes_kept[form.name] = kept(forward)
        steps[form.name] = functools.partial(_step, forward, leaf, grad) if backward else forward
    timings = measure(steps, settings.seconds, seed=settings.seed, clock=clock(settings.device))
    return Case(size, dtype, threads, timings, nodes, bytes_kept)


def _forward(form: Form, x: Tensor, threads: int) -> tuple[Callable[[], Tensor], Tensor]:
    """The forward pass of ``form``, and the leaf that it starts from."""
    module = form.make()
    if form.inplace:
        # A leaf may not be overwritten, nor a view of one. This is neither, shares the memory and costs next to nothing.
        # What is overwritten stays so, which no form's speed depends on.
        leaf = x.clone().requires_grad_()
        return lambda: module(not_a_view(leaf)), leaf
    leaf = x.detach().requires_grad_()
    if form.compiled:
        compiled = torch.compile(module, fullgraph=True, dynamic=False, options=inductor(threads, x.device))
        return lambda: compiled(leaf), leaf
    return lambda: module(leaf), leaf


def _step(forward: Callable[[], Tensor], leaf: Tensor, grad: Tensor) -> None:
    torch.autograd.grad(forward(), leaf, grad)


def _limit(x: Tensor, grad: Tensor) -> Callable[[], object]:
    """Read x, write y; read y and the gradient, write a gradient: into memory that is there."""
    y, out = torch.empty_like(x), torch.empty_like(x)

    def copy_and_triad() -> None:
        y.copy_(x)
        torch.add(grad, y, out=out)

    return copy_and_triad
