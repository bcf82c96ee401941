"""Count units while a network trains: on sampled steps, with gradient and update norms, and what died or revived."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from undying._base.patterns import SKIPPED, Skip
from undying._base.unwrap import uncompiled, unwrap_model
from undying._base.warn import warn
from undying._torch import computes_no_numbers, in_backward, in_functorch, jit_tracing_state
from undying.census.batches import Mask, mask_of_call
from undying.census.call_names import CallNames
from undying.census.census import census, site_of
from undying.census.counting import Counter
from undying.census.norms import norms
from undying.census.outputs import Given, Outputs
from undying.census.passes import Passes, is_training
from undying.census.record import Record
from undying.census.results import Census, Changes, is_same_site
from undying.census.samples import samples_in, samples_of
from undying.census.since_fired import SinceFired
from undying.census.sinks import Sink, Sinks, sinks_of
from undying.census.step_counter import StepCounter
from undying.census.steps import Optimizers, Steps

__all__ = ["Watch", "watch"]

#: Forward passes without a step after which it is said that none comes.
_MANY = 1000
#: Those that are not closed.
_open: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """Counts sampled steps of a training; see :func:`watch`. Whatever fails once it is made is said in a warning."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizers | None,
        every: int,
        probe: Any,
        sinks: Sinks,
        tau: float,
        axes: Mapping[str, int],
        mask: Mask | None = None,
        skip: str | Sequence[str] = (),
        method: str | None = None,
        first: int = 0,
        distributed: bool | None = None,
        outputs: Given = (),
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of at least 1, not {every!r}")
        if isinstance(first, bool) or not isinstance(first, int) or first < 0:
            raise ValueError(f"first must be a whole number of at least 0, not {first!r}")
        self.model, self.every, self.tau, self.axes, self.mask = unwrap_model(model), every, tau, axes, mask
        self.steps = first
        """Steps that have ended, with those before a resumed training: the number of the one that is under way."""
        self._first = first
        self.last: Record | None = None
        """Of the last sampled step."""
        self._skip = Skip(skip)
        self._names_checked = False
        self._said: set[str] = set()
        in_ddp = isinstance(model, nn.parallel.DistributedDataParallel)
        self._distributed = in_ddp if distributed is None else distributed
        self._probe = probe
        self._outputs = outputs
        self._passes = Passes(self.model, method, self._around, Outputs(self.model, outputs).methods)
        self._passes_seen = 0
        self.initial = self._seen = self._on_probe()
        """Census of the probe before training: what is silent here was so from the start. None without a probe."""
        self._counter: Counter | None = None
        self._names = CallNames()
        self._units: dict[str, int] = {}
        self._left_out: dict[str, str] = {}
        self._parts: list[nn.Module] = []
        self._gradient_norms: dict[str, float] = {}
        self._update_norms: dict[str, float] = {}
        # Kept from sample to sample: to allocate a copy of the parameters takes longer than to fill it.
        self._before: dict[str, Tensor] = {}
        self._sampling = contextlib.ExitStack()
        self._closed = False
        self._optimizers = None if optimizer is None else Steps(optimizer, self)
        with contextlib.ExitStack() as undo:
            if self._optimizers is not None:
                undo.callback(self._optimizers.remove)
            self.sinks: list[Sink] = sinks_of(sinks)
            self._check_that_no_other_writes()
            for sink in self.sinks:
                if isinstance(sink, SinceFired):
                    sink.follow(self.model)
            undo.pop_all()
        _open.add(self)
        for wrapper in self._optimizers.wrappers if self._optimizers is not None else []:
            self._say(
                f"the steps of the optimizer in {wrapper} are followed; what {wrapper} itself changes is not measured"
            )
        self._sample()

    def _check_that_no_other_writes(self) -> None:
        own = {getattr(sink, "path", id(sink)) for sink in self.sinks}
        for other in _open:
            if other.model is self.model and own & {getattr(sink, "path", id(sink)) for sink in other.sinks}:
                raise ValueError(
                    f"an earlier watch of this {type(self.model).__name__} is open and writes to the same sink, so that "
                    "each record would be there twice; close() that one, or use watch in a with statement"
                )

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, _: object, exception: BaseException | None, __: object) -> None:
        self._passes_seen = 0 if exception else self._passes_seen
        self.close()

    def close(self) -> None:
        """Leave the model and the optimizer alone and close the sinks. A step that has not ended is not recorded."""
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        self._sampling.close()
        self._counter = None
        if self._optimizers is not None:
            self._optimizers.remove()
        for sink in self.sinks:
            with self._going_on(f"{type(sink).__name__} could not be closed"):
                sink.close()
        if self._passes_seen:
            self._say_no_step()

    def step(self) -> None:
        """Say that a step has ended. Only without an optimizer, whose steps are followed by themselves."""
        if self._optimizers is not None:
            raise RuntimeError("watch follows the steps of its optimizer; call step() only without one")
        if self._counter is not None:
            with self._going_on("the norms of gradients could not be taken"):
                self._gradient_norms = norms({name: p.grad for name, p in self._parameters() if p.grad is not None})
        self._end_step()

    def _end_step(self) -> None:
        if self._closed:
            return
        if self._counter is not None:
            self._write(self._counter)
        self._passes_seen = 0
        self.steps += 1
        self._sample()

    # Sampling: calls are followed, and the compiler's stance is in place, during sampled steps only.

    def _sample(self) -> None:
        sampling, sampled = self.steps % self.every == 0, self._counter is not None
        self._gradient_norms, self._update_norms, self._parts = {}, {}, []
        self._counter = self._new_counter() if sampling else None
        if sampling and not sampled:
            self._sampling.enter_context(uncompiled())
            self._sampling.enter_context(self._passes)
        elif sampled and not sampling:
            self._sampling.close()

    @contextlib.contextmanager
    def _around(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
        """What a forward pass runs in."""
        counter = self._counter
        evaluating = not torch.is_grad_enabled() and not is_training(module)
        # A counter that is active is busy in another thread; what runs within a backward pass is computed again.
        if counter is None or counter.active or evaluating or in_backward():
            yield
            return
        if not self._can_count(module, args, kwargs, counter):
            yield
            return
        self._passes_seen += 1
        if self._passes_seen == _MANY:
            self._say_no_step()
        try:
            with counter.attached(), counter:
                yield
        except BaseException:
            # What it had counted cannot be taken back, and if it is tried again would be counted twice.
            self._counter = self._new_counter()
            raise

    def _new_counter(self) -> StepCounter:
        known = (self._names, self._units, self._left_out)
        return StepCounter(self.model, self.axes, self._skip, self._outputs, *known)

    def _can_count(self, module: nn.Module, args: Any, kwargs: Any, counter: Counter) -> bool:
        """Whether a forward pass is one of training; what cannot be told of it is said."""
        if torch.compiler.is_compiling() or jit_tracing_state() is not None or computes_no_numbers():  # an export
            return False
        if in_functorch():
            self._say("forward passes within transforms of torch.func are not counted")
            return False
        try:
            counter.start_batch(mask_of_call(module, args, kwargs, self.mask), samples_in(args, kwargs), module)
            counter.given(args, kwargs)
        except Exception as error:
            self._say(f"a forward pass is not counted: {error}")
            return False
        if module is not self.model and module not in self._parts and any(True for _ in module.parameters()):
            self._parts.append(module)
            if len(self._parts) == 2:
                names = {part: name for name, part in self.model.named_modules()}
                self._say(
                    f"the training step calls parts of {type(self.model).__name__}, such as "
                    f"{' and '.join(repr(names[part]) for part in self._parts)}; activation functions between them are not "
                    "counted. Where they are in one of its methods, name that: watch(..., method='training_step')"
                )
        return True

    # Gradients and updates: what Steps tells

    def begins(self) -> None:
        """Remember the parameters."""
        if self._counter is None:
            return
        with self._going_on("the norm of the update could not be taken"):
            for name, p in self._parameters():
                before = self._before.get(name)
                if before is not None and (before.shape, before.dtype, before.device) == (p.shape, p.dtype, p.device):
                    before.copy_(p.detach())
                else:
                    self._before[name] = p.detach().clone()

    def given(self, optimizer: Optimizer) -> None:
        """Take the norms of the gradients that an optimizer has."""
        if self._counter is None:
            return
        with self._going_on("the norms of gradients could not be taken"):
            own = {id(p) for group in optimizer.param_groups for p in group["params"]}
            gradients = {name: (p, p.grad) for name, p in self._parameters() if p.grad is not None}
            # An optimizer of other tensors works on copies of the parameters.
            foreign = not any(id(p) in own for _, p in self._parameters())
            sizes = norms({name: grad for name, (p, grad) in gradients.items() if foreign or id(p) in own})
            # torch.amp's scaler leaves unscaling to optimizers that can do it themselves.
            scale = getattr(optimizer, "grad_scale", None)
            self._gradient_norms |= sizes if scale is None else {name: n / float(scale) for name, n in sizes.items()}

    def ends(self) -> None:
        """Take the norms of what changed, and record the step."""
        if self._counter is not None:
            with self._going_on("the norm of the update could not be taken"):
                changes = {
                    name: self._before[name].sub_(p.detach())
                    for name, p in self._parameters()
                    if name in self._before and self._before[name].shape == p.shape
                }
                self._update_norms = norms(changes)
        self._end_step()

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad and not is_lazy(p)]

    # Records

    def _on_probe(self) -> Census | None:
        if self._probe is None:
            return None
        return census(
            self.model,
            [self._probe],
            outputs=self._outputs,
            tau=self.tau,
            axes=self.axes,
            mask=self.mask,
            skip=self._skip,
        )

    def _write(self, counter: Counter) -> None:
        counted: Census | None = None
        left_out: dict[str, str] = {}
        with self._going_on(f"step {self.steps} could not be counted", once="counting"):
            counted, left_out = self._counted(counter)
        samples = samples_of(counter.passes)
        if self._distributed:
            counted, left_out, samples = _over_ranks(counted, left_out, samples)
        self._say_each("left out", {name: why for name, why in left_out.items() if not why.startswith(SKIPPED)})
        if counted is None or not counted.sites:
            what = f"it saw no activation of {type(self.model).__name__} in step {self.steps}: nothing is recorded"
            self._say(what, once="no activation")
            return
        probe: Census | None = None
        changes: dict[str, Changes] = {}
        with self._going_on(f"the probe could not be counted after step {self.steps}", once="probe"):
            probe = self._on_probe()
            changes = self._changes(probe)
        sizes = self._gradient_norms, self._update_norms
        self.last = Record(self.steps, counted, *sizes, probe, changes, left_out, samples)
        if not self._distributed or torch.distributed.get_rank() == 0:
            for sink in self.sinks:
                name = type(sink).__name__
                with self._going_on(f"{name} did not take the record of step {self.steps}", once=f"{name} {id(sink)}"):
                    sink.write(self.last)

    def _counted(self, counter: Counter) -> tuple[Census, dict[str, str]]:
        """The step's census, and the sites that are left out with the reason."""
        counter.add_samples()  # a training step that steps the optimizer itself is not over
        unrecognised = counter.unrecognised()
        self._say_each("not recognised, so not counted", unrecognised)
        self._say_each("cannot tell the calls apart", self._names.doubts())
        self._check_names([*counter.counts, *counter.ambiguous, *self._left_out, *unrecognised])
        left_out, sites = dict(self._left_out), []
        for name, shape in counter.ambiguous.items():
            left_out[name] = f"nothing decides which axis of its {shape} input holds the units; axes= names it"
        for counts in counter.counts.values():
            try:
                if int(counts.values) == 0:
                    left_out[counts.name] = "the mask leaves no value"
                else:
                    sites.append(site_of(counts, self.tau, gradients=False, unused=None))
            except Exception as error:
                left_out[counts.name] = str(error)
        return Census(sites, self.tau, None, None, counter.ambiguous, unrecognised), left_out

    def _check_names(self, sites: list[str]) -> None:
        """Say once which of the user's names fit no site of the first step that has any."""
        if not sites or self._names_checked:
            return
        self._names_checked = True
        try:
            self._skip.check(sites)
        except ValueError as error:
            self._say(str(error))
        if unknown := [name for name in self.axes if name not in sites]:
            self._say(f"axes names {unknown[0]!r}, which is no site; sites: {', '.join(sites)}")

    def _changes(self, now: Census | None) -> dict[str, Changes]:
        """What changed on the probe since the census before, at the sites that both have."""
        before, self._seen = self._seen, now
        if now is None or before is None:
            return {}
        if now.probe != before.probe:
            self._say("the probe holds other numbers than before, so nothing is said of units that died or revived")
            return {}
        both = {site.name for site in now.sites if site.name in before and is_same_site(site, before[site.name])}
        if other := {*before, *now} - both:
            self._say(
                "the probe does not reach the same units as before; nothing is said of those that died or revived at "
                + ", ".join(sorted(other))
            )
        # The probe is the same, though there may be no fingerprint that says so.
        return _only(now, both).since(_only(before, both), other_probe=True)

    # What is said instead of ending a training

    def _say(self, what: str, once: str = "") -> None:
        """Warn, once of each ``once``, which is ``what`` where that names no step."""
        if (once or what) not in self._said:
            self._said.add(once or what)
            warn(f"watch: {what}")

    @contextlib.contextmanager
    def _going_on(self, what: str, once: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._say(f"{what}: {reason}", once and f"{once}: {reason}")

    def _say_each(self, what: str, reasons: Mapping[str, object]) -> None:
        """Warn of names that were not warned of so."""
        new = [name for name in reasons if f"{what}: {name}" not in self._said]
        self._said.update(f"{what}: {name}" for name in new)
        if new:
            self._say(f"{what}: " + "; ".join(f"{name}: {reasons[name]}" for name in new))

    def _say_no_step(self) -> None:
        if self.steps == self._first:
            self._say(
                f"{self._passes_seen} forward passes of {type(self.model).__name__} and no step: nothing is recorded. Where "
                "the optimizer steps by another method than step(), leave optimizer out and call watching.step() after each"
            )


def watch(
    model: nn.Module,
    optimizer: Optimizers | None = None,
    *,
    every: int = 50,
    probe: Any = None,
    sinks: Sinks = (),
    tau: float = 0.025,
    axes: Mapping[str, int] | None = None,
    mask: Mask | None = None,
    skip: str | Sequence[str] = (),
    method: str | None = None,
    first: int = 0,
    distributed: bool | None = None,
    outputs: Given = (),
) -> Watch:
    """Watch the units of ``model`` while it trains: a context manager, or an object to ``close()``.

    On every ``every``-th step it counts what reaches and leaves each activation, over all forward passes of the step
    (gradient accumulation), each counted once (checkpointing), and takes the norms of gradients and updates. A forward
    pass is a call of the model or of ``method``, or of a part of the model where the training step calls its parts.
    Training goes on to the same numbers as without it, and nothing is left on the model between forward passes, so that
    copies are clean. What cannot be counted ends no training: a warning names it, and so does :attr:`Record.left_out`.

    It keeps a copy of the parameters, to measure updates by, if there is an optimizer.

    Sampled steps of a compiled model run uncompiled, so there is no graph break and nothing is compiled again; such
    steps differ by rounding, and draw dropout's random numbers as eager code does.

    Args:
        model: the network; compiled or in DistributedDataParallel too.
        optimizer: a step is a call of its ``step``, or of that of the optimizer in a wrapper (accelerate's, SAM); one
            that a ``GradScaler`` skips goes on into the next. Of several, in a list or dict, each must step to end one.
            Without one call :meth:`Watch.step` at the end of each step, before gradients are set to zero; so too where
            ``optimizer.step`` itself is compiled.
        every: sample the steps whose number is a multiple of this.
        probe: a batch as :func:`undying.census` takes it, always the same, which is counted in eval mode before
            training and after each sampled step, to tell which units died or revived.
        sinks: where records go: :class:`undying.Memory`, :class:`undying.JSONL`, those in ``undying.integrations``, or
            anything with ``write(record)`` and ``close()``; one or several. A path is that of a JSONL.
        tau: dormancy threshold.
        axes: unit axis by site name, where the producer of a tensor does not decide it.
        mask: which positions count, as for :func:`undying.census`: the name of an argument of the forward pass, or of
            an entry of a dict that it is given; or a function of the batch. A forward pass with one argument has that as
            its batch, one with keyword arguments their dict, one with several a tuple.
        skip: patterns (``fnmatch``) of names to leave out, of sites and of places that are not recognised.
        method: name of a method that the training step calls instead of the model, so that activation functions that it
            calls are seen.
        first: number of the first step: where a training is resumed, how many steps were done before.
        distributed: add the counts of all ranks, so that rank 0 writes; default: where the model is in
            DistributedDataParallel. Every rank then takes the same steps.
        outputs: what parts and methods return that is counted too, as for :func:`undying.census`: the latents of a sparse
            autoencoder, the experts of a router. A call of such a method is a forward pass.

    Raises:
        ValueError: ``every`` is no whole number of at least 1, ``first`` none of at least 0, the model's class has no
            such method, the probe is no batch, or a watch that was not closed writes of the model to the same sink.
        TypeError: the model is in ``nn.DataParallel``, the steps of the optimizer cannot be followed, or one of ``sinks``
            is no sink.

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
    return Watch(
        model, optimizer, every, probe, sinks, tau, axes or {}, mask, skip, method, first, distributed, outputs
    )


def _only(counted: Census, names: set[str]) -> Census:
    return dataclasses.replace(
        counted, sites=sorted((site for site in counted.sites if site.name in names), key=lambda site: site.name)
    )


def _over_ranks(
    own: Census | None, left_out: dict[str, str], samples: int | None
) -> tuple[Census | None, dict[str, str], int | None]:
    """Counts of all ranks, of each site over those that reach it. Every rank must come here, whatever it has."""
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, (None if own is None else own.to_dict(), left_out, samples))
    left_out = {name: reason for _, reasons, _ in shares for name, reason in reasons.items()}
    given = [number for _, _, number in shares]
    samples = None if None in given else sum(given)
    sites: dict[str, Census] = {}
    counted = [Census.from_dict(content) for content, _, _ in shares if content is not None]
    for share in counted:
        for site in share.sites:
            alone = dataclasses.replace(share, sites=[site])
            try:
                sites[site.name] = sites[site.name] + alone if site.name in sites else alone
            except ValueError:
                left_out[site.name] = "its units differ between ranks"
    if not counted:
        return None, left_out, samples
    kept = [sites[name].sites[0] for name in sites if name not in left_out]
    unrecognised = {name: place for share in counted for name, place in share.unrecognised.items()}
    return dataclasses.replace(counted[0], sites=kept, unrecognised=unrecognised), left_out, samples
