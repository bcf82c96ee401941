"""Count units while a network trains: on sampled steps, with gradient and update norms, and what died or revived."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim import Optimizer

from undying._base.unwrap import uncompiled, unwrap_model
from undying._torch import in_backward
from undying.census.census import census, site_of
from undying.census.counting import Counter
from undying.census.record import Record
from undying.census.results import Census
from undying.census.sinks import Sink

__all__ = ["Watch", "watch"]


class Watch:
    """Counts sampled steps of a training; see :func:`watch`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        every: int,
        probe: Any,
        sinks: Iterable[Sink],
        tau: float,
        axes: Mapping[str, int],
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of at least 1, not {every!r}")
        self.model, self.optimizer, self.every, self.tau, self.axes = unwrap_model(model), optimizer, every, tau, axes
        self.steps = 0
        """Steps that have ended."""
        self._unrecognised: set[str] = set()
        """Places that it has warned of."""
        self.last: Record | None = None
        """Of the last sampled step."""
        self.sinks = list(sinks)
        self._distributed = isinstance(model, nn.parallel.DistributedDataParallel)
        self._probe = probe
        self.initial = self._seen = self._on_probe()
        """Census of the probe before training: what is silent here was so from the start. None without a probe."""
        self._counter: Counter | None = None
        self._gradient_norms: dict[str, float] = {}
        self._update_norms: dict[str, float] = {}
        # Kept from sample to sample: to allocate a copy of the parameters takes longer than to fill it.
        self._before: dict[str, Tensor] = {}
        self._sampling = contextlib.ExitStack()
        self._hooks = contextlib.ExitStack()
        if optimizer is not None:
            self._hooks.callback(optimizer.register_step_pre_hook(self._before_update).remove)
            self._hooks.callback(optimizer.register_step_post_hook(self._after_update).remove)
        self._start_sampling()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove every hook and close the sinks. A step that has not ended is not recorded."""
        self._stop_sampling()
        self._hooks.close()
        for sink in self.sinks:
            sink.close()
        self.sinks.clear()

    def step(self) -> None:
        """Say that a step has ended. Only without an optimizer, whose steps are followed by themselves."""
        if self.optimizer is not None:
            raise RuntimeError("watch follows the steps of its optimizer; call step() only without one")
        if self._counter is not None:
            self._gradient_norms = self._norms_of_gradients(1.0)
        self._end_step()

    def _end_step(self) -> None:
        if self._counter is not None:
            self._write(self._counter)
        self.steps += 1
        if self.steps % self.every:
            self._stop_sampling()
        else:
            self._start_sampling()

    # Sampling: hooks and the compiler's stance are in place during sampled steps only.

    def _start_sampling(self) -> None:
        self._gradient_norms, self._update_norms = {}, {}
        if self._counter is not None:  # every step is sampled: the hooks stay
            self._counter.restart()
            return
        self._counter = Counter(self.model, self.axes, False, self._begin_forward, self._end_forward)
        self._sampling.enter_context(uncompiled())
        self._sampling.enter_context(self._counter.attached())

    def _stop_sampling(self) -> None:
        self._sampling.close()
        self._counter = None

    def _begin_forward(self, outermost: nn.Module) -> None:
        evaluating = not outermost.training and not torch.is_grad_enabled()
        # A forward pass within a backward pass is one that checkpointing computes again.
        if self._counter is not None and not evaluating and not in_backward():
            self._counter.start_batch()
            self._counter.__enter__()

    def _end_forward(self) -> None:
        if self._counter is not None and self._counter.active:
            self._counter.__exit__(None, None, None)

    # Gradients and updates

    def _before_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._counter is None:
            return
        if not _has_closure(args, kwargs):
            # torch.amp's scaler leaves unscaling to optimizers that can do it themselves.
            self._gradient_norms = self._norms_of_gradients(getattr(optimizer, "grad_scale", None))
        for name, p in self._parameters():
            if name in self._before:
                self._before[name].copy_(p.detach())
            else:
                self._before[name] = p.detach().clone()

    def _after_update(self, _: Optimizer, args: Any, kwargs: Any) -> None:
        if self._counter is not None:
            if _has_closure(args, kwargs):  # which computes the gradients
                self._gradient_norms = self._norms_of_gradients(None)
            changes = {name: self._before[name].sub_(p.detach()) for name, p in self._parameters()}
            self._update_norms = _norms(changes)
        self._end_step()

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def _norms_of_gradients(self, scale: Any) -> dict[str, float]:
        norms = _norms({name: p.grad for name, p in self._parameters() if p.grad is not None})
        return {name: norm / float(scale) for name, norm in norms.items()} if scale is not None else norms

    # Records

    def _on_probe(self) -> Census | None:
        if self._probe is None:
            return None
        return census(self.model, [self._probe], tau=self.tau, axes=self.axes)

    def _write(self, counter: Counter) -> None:
        if not counter.counts:
            warnings.warn(
                f"watch saw no activation of {type(self.model).__name__} in step {self.steps}: nothing is recorded",
                stacklevel=4,
            )
            return
        sites = [site_of(counts, self.tau, gradients=False, unused=None) for counts in counter.counts.values()]
        counted = Census(sites, self.tau, None, None, counter.ambiguous, counter.unseen.places)
        self._say_unrecognised(counted)
        if self._distributed:
            counted = counted.all_reduce()
        probe, before = self._on_probe(), self._seen
        changes = probe.since(before) if probe is not None and before is not None else {}
        self._seen = probe
        self.last = Record(self.steps, counted, self._gradient_norms, self._update_norms, probe, changes)
        if not self._distributed or torch.distributed.get_rank() == 0:
            for sink in self.sinks:
                sink.write(self.last)

    def _say_unrecognised(self, counted: Census) -> None:
        new = {name: place for name, place in counted.unrecognised.items() if name not in self._unrecognised}
        self._unrecognised.update(new)
        if new:
            places = "; ".join(f"{name} ({place})" for name, place in new.items())
            warnings.warn(f"watch does not recognise, so does not count: {places}", stacklevel=2)


def watch(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    every: int = 50,
    probe: Any = None,
    sinks: Iterable[Sink] = (),
    tau: float = 0.025,
    axes: Mapping[str, int] | None = None,
) -> Watch:
    """Watch the units of ``model`` while it trains: a context manager, or an object to ``close()``.

    On every ``every``-th step, from the first on, it counts what reaches and leaves each activation, over all forward
    passes of the step (gradient accumulation), each counted once (checkpointing), and takes the norms of gradients and
    updates. A forward pass is a call of the model, or of a part of it where the training step calls its parts. Between sampled steps there is no hook on the model. Training goes on to the same numbers as without it.

    It keeps a copy of the parameters, to measure updates by, if there is an optimizer.

    Sampled steps of a compiled model run uncompiled, so there is no graph break and nothing is compiled again; such
    steps differ by rounding, and draw dropout's random numbers as eager code does.

    Args:
        model: the network; compiled or in DistributedDataParallel too, where counts are added over the ranks and
            rank 0 writes.
        optimizer: a step is a call of its ``step``; one that a ``GradScaler`` skips goes on into the next. Without one
            call :meth:`Watch.step` at the end of each step, before gradients are set to zero; so too where
            ``optimizer.step`` itself is compiled.
        every: sample each so many steps.
        probe: a batch as :func:`undying.census` takes it, always the same, which is counted in eval mode before
            training and after each sampled step, to tell which units died or revived.
        sinks: where records go: :class:`undying.Memory`, :class:`undying.JSONL`, those in ``undying.integrations``, or
            anything with ``write(record)`` and ``close()``.
        tau: dormancy threshold.
        axes: unit axis by site name, where the producer of a tensor does not decide it.

    Raises:
        ValueError: ``every`` is no whole number of at least 1, or the probe is no batch.
        TypeError: the model is in ``nn.DataParallel``.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> memory = undying.Memory()
    >>> x = torch.rand(32, 4)
    >>> with undying.watch(net, optimizer, every=5, probe=x, sinks=[memory]):
    ...     for _ in range(11):
    ...         optimizer.zero_grad()
    ...         net(x).square().mean().backward()
    ...         optimizer.step()
    >>> [record.step for record in memory]
    [0, 5, 10]
    """
    return Watch(model, optimizer, every, probe, sinks, tau, axes or {})


def _has_closure(args: Any, kwargs: Any) -> bool:
    return (args[0] if args else kwargs.get("closure")) is not None


def _norms(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """L2 norms, read off the device at once."""
    norms = [torch.linalg.vector_norm(t, dtype=torch.float32) for t in tensors.values()]
    values = torch.stack([norm.to(norms[0].device) for norm in norms]).tolist() if norms else []
    return dict(zip(tensors, values, strict=True))
