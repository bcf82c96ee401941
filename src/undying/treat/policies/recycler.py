"""Carry a policy out: measure, ask it, and make the units that it names anew, in the network and the optimizer."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from undying._base.unwrap import is_compiled, unwrap_model
from undying._base.warn import warn
from undying.census.batches import Inputs
from undying.census.sinks import Sinks, sinks_of
from undying.treat.edits import check_held, optimizers_in, remembered
from undying.treat.policies.dead_latents import DeadLatents
from undying.treat.policies.parts import Part
from undying.treat.policies.policy import Chosen, Look, Policy, whole
from undying.treat.policies.record import RecycleRecord
from undying.treat.policies.renewal import INITS, Draws, heard_elsewhere, renew, silence
from undying.treat.policies.resampling import Resampling
from undying.treat.policies.taps import Measured, Taps
from undying.treat.policies.wiring import is_frozen, wire
from undying.treat.probe import Probe, Seen
from undying.treat.recycle import Optimizers

__all__ = ["Recycler"]


class Recycler:
    """Recycles units of a network while it trains, as a policy says: call :meth:`step` after ``optimizer.step()``.

    A unit that the policy names is given new incoming weights and outgoing weights of 0; its row of a norm in between is set
    back, and what the optimizer remembers of all these, and their gradients, become 0. What makes a unit and what weighs it
    is found once, on the probe, as :func:`undying.recycle_` finds it. Units that one cannot recycle without others are left
    out: :attr:`refused` names the sites with the reasons.

    The policy sees the forward passes of training: those that record gradients. Between the steps that it looks at nothing
    is on the network, and a step in which nothing can be due does not wait for the device.

    Args:
        model: the network; one in DistributedDataParallel is changed inside, and all ranks do the same.
        optimizer: what trains it: one, several, or None.
        policy: :class:`undying.ReDo`, :class:`undying.ContinualBackprop`, :class:`undying.SelfNormalizedResets`,
            :class:`undying.GradientDormancy` or, for autoencoders, :class:`undying.DeadLatents`.
        probe: batches, as :func:`undying.census` takes them; a few samples, by which the network is followed. DeadLatents draws its
            directions from them.
        init: the incoming weights. ``"default"``: as the layer's own ``reset_parameters`` draws them; ``"kaiming"``: normal
            with variance 2 / fan_in, and biases 0.
        inputs, axes: as in :func:`undying.census`.
        generator: whence the seed of the draws comes; default: torch's own.
        sinks: those of :func:`undying.watch`, which are given a record every ``every`` steps: units recycled, revived, died
            again.
        every: steps between records.
        distributed: add what is measured over all ranks, and recycle the same on each; default: where the model is in
            DistributedDataParallel. Every rank then takes the same steps, and reaches the same sites in each.
        method: name of a method of its class that training, and the probe, calls instead of the model.

    Raises:
        ValueError: no site can be recycled, an optimizer does not hold what would change, ``init`` is not known, a layer is lazy
            still, or the network gives no finite number on the probe.
        TypeError: the policy is none, or the probe no batches.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> _ = nn.init.constant_(net[0].bias[:3].data, -100.0)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> x = torch.rand(32, 4)
    >>> with undying.Recycler(net, optimizer, undying.ReDo(every=5), probe=x) as recycler:
    ...     for _ in range(5):
    ...         optimizer.zero_grad()
    ...         net(x).square().mean().backward()
    ...         optimizer.step()
    ...         recycler.step()
    >>> recycler.recycled >= 3
    True
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizers,
        policy: Policy,
        *,
        probe: Iterable[Any],
        init: str = "default",
        inputs: Inputs | None = None,
        axes: Mapping[str, int] | None = None,
        generator: torch.Generator | None = None,
        sinks: Sinks = (),
        every: int = 1000,
        distributed: bool | None = None,
        method: str | None = None,
    ) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"policy must be one of undying's, such as undying.ReDo(), not {policy!r}")
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, not {init!r}")
        whole("every", every)
        if not isinstance(probe, Tensor) and not hasattr(probe, "__iter__") and not hasattr(probe, "__getitem__"):
            raise TypeError(
                f"probe must be batches as undying.census takes them, such as a tensor of samples, not {probe!r}"
            )
        self.policy, self.every = policy, every
        self.model = unwrap_model(model)
        self.steps = 0
        """Steps that have ended."""
        self.recycled = 0
        """Units recycled so far."""
        self._optimizers = optimizers_in(optimizer)
        in_ddp = isinstance(model, nn.parallel.DistributedDataParallel)
        self._group: Any = None
        if in_ddp if distributed is None else distributed:
            self._group = model.process_group if in_ddp else torch.distributed.group.WORLD
        # Before the network runs: one that draws is to draw the same each time.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else "cpu"))
        self._draws = Draws(init, _of_first_rank(seed, self._group))
        tracing = Probe(self.model, probe, inputs, axes or {}, method=method)
        seen = tracing.look()
        _check_shown(self.model, seen)
        self.sites, self.refused = wire(self.model, seen)
        """Sites of which units can be recycled, by name; and why some or all units of a site cannot."""
        self.refused |= {
            name: f"nothing decides which axis of its {shape} input holds the units; name it in axes="
            for name, shape in seen.ambiguous.items()
        }
        for name in heard_elsewhere(self.sites.values(), tracing, seed):
            del self.sites[name]
            self.refused[name] = (
                "an output changes with its units though they are not weighed: something that is not followed reads it"
            )
        if not self.sites:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items()) or "it calls no activation"
            raise ValueError(f"no unit of {type(self.model).__name__} can be recycled: {reasons}")
        names = {id(t): name for name, t in _tensors(self.model).items()}
        self._written = {
            name: {names[id(t)]: t for t in [*site.targets, *site.moved]} for name, site in self.sites.items()
        }
        """By site and name: what recycling changes; below, of that, what makes or weighs units that can be."""
        self._trained = {
            name: [part.target for part in site.parts if site.able[part.units].any()]
            for name, site in self.sites.items()
        }
        self._resampling = self._resampled_by(tracing)
        targets = {id(t): t for site in self.sites.values() for t in site.targets}
        check_held(self._optimizers, targets.values(), lambda t: names[id(t)])
        self._able = {name: site.able.to(site.makers[0].part.target.device) for name, site in self.sites.items()}
        self._state = {name: policy.begin(able) for name, able in self._able.items()}
        self._since: dict[str, Tensor] = {
            name: torch.zeros(site.units, dtype=torch.bool) for name, site in self.sites.items()
        }
        """Recycled since the last record; below, of all so far those that have not fired in one, and those that have."""
        self._waiting = {name: mask.clone() for name, mask in self._since.items()}
        self._revived = {name: mask.clone() for name, mask in self._since.items()}
        self.sinks = sinks_of(sinks)
        self._taps = Taps(self.model, self.sites, [*seen.types, *seen.ambiguous], method)
        self._looking = self._recording = False
        self._said: set[Any] = set()
        self._closed = False
        if is_compiled(model) and all(policy.listens(step) for step in (1, 2)):
            self._say(f"{type(policy).__name__} looks at every step, and a step that is looked at runs uncompiled")
        # A Recycler that nobody holds any more leaves the network alone, closed or not: forward passes are noticed by the
        # class of all modules, which would keep the taps, and the compiler off, as long as the process lives.
        weakref.finalize(self, self._taps.listen, frozenset()).atexit = False
        self._listen()

    def _resampled_by(self, probe: Probe) -> Resampling | None:
        if not isinstance(self.policy, DeadLatents):
            return None
        if self._group is not None:
            raise ValueError(
                "DeadLatents draws from the samples of one process, and with distributed each has its own: give all the same "
                "latents with undying.integrations.sae.resample_, or pass distributed=False where one process trains"
            )
        if self._draws.init != INITS[0]:
            raise ValueError(
                f"init={self._draws.init!r} goes with no DeadLatents, whose new rows are directions of samples"
            )
        return Resampling(self.sites, probe, self.policy.scale)

    def __enter__(self) -> Recycler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the network alone, and close the sinks."""
        if not self._closed:
            self._closed = True
            self._taps.listen(frozenset())
            for sink in self.sinks:
                sink.close()

    def step(self) -> None:
        """Say that a step of the optimizer has ended: what the policy names is recycled.

        Raises:
            RuntimeError: it is closed, or a tensor that would be written was replaced in the network.
        """
        if self._closed:
            raise RuntimeError("this Recycler is closed; make another")
        self.steps += 1
        if self._looking or self._recording:
            seen = self._taps.take(self._group)
            if seen:
                self._work(seen)
            elif not self._said:
                self._said.add("")
                self._say(
                    f"no forward pass of {type(self.model).__name__} with gradients before step {self.steps}, so that nothing is "
                    "recycled until one comes"
                )
        self._listen()

    def _work(self, seen: dict[str, Measured]) -> None:
        astray = [name for name, measured in seen.items() if measured.astray]
        self._check_there(astray)
        self._say_astray(astray)
        fates = self._fates(seen) if self._recording else None
        if self._looking:
            self._say_missing(seen)
            looks = {
                name: Look(self.sites[name], self._able[name], self._state[name], measured)
                for name, measured in seen.items()
                if not measured.astray and not self._is_frozen(name)
            }
            self.policy.update([*looks.values()])
            chosen: dict[str, Chosen] = {}
            for name, look in looks.items():
                found = self.policy.choose(look)
                if found is not None and len(found.units):
                    chosen[name] = found
            if chosen:
                self._recycle(chosen)
        if fates is not None:
            self._record(*fates)
        self._looking = self._recording = False

    def _check_there(self, sites: Iterable[str]) -> None:
        """Whether what would be written is in the network still.

        Raises:
            RuntimeError: it is not; nothing was written.
        """
        written = {key: tensor for name in sites for key, tensor in self._written[name].items()}
        there = _tensors(self.model) if written else {}
        for key, tensor in written.items():
            if there.get(key) is not tensor:
                raise RuntimeError(
                    f"{key!r} is another tensor than when this Recycler was made (a module was replaced, a state was loaded with "
                    "assign=True, the network was moved or cast), so that nothing was recycled: make another Recycler"
                )

    def _is_frozen(self, name: str) -> bool:
        frozen = [target for target in self._trained[name] if is_frozen(target)]
        if frozen and (name, "frozen") not in self._said:
            self._said.add((name, "frozen"))
            key = next(key for key, tensor in self._written[name].items() if tensor is frozen[0])
            self._say(
                f"{key} is frozen (requires_grad=False) in step {self.steps}: no unit of {name} is recycled meanwhile"
            )
        return bool(frozen)

    def _say_astray(self, names: list[str]) -> None:
        new = [name for name in names if name not in self._said]
        self._said.update(new)
        if new:
            self._say(
                f"training calls {', '.join(new)} otherwise than on the probe, another number of times or behind another layer, "
                f"in step {self.steps}; none of its units is recycled in such a step: give each place a module of its own"
            )

    def _say_missing(self, seen: Mapping[str, Measured]) -> None:
        missing = [name for name in self.sites if name not in seen and name not in self._said]
        self._said.update(missing)
        if missing:
            self._say(
                f"nothing was measured at {', '.join(missing)} in step {self.steps}: no forward pass reached it, or no gradient "
                "did; none of its units is recycled in such a step"
            )

    def _listen(self) -> None:
        """Measure in the next step what is needed; what was due and could not be done stays due."""
        self._looking |= self.policy.listens(self.steps + 1)
        self._recording |= bool(self.sinks) and (self.steps + 1) % self.every == 0
        what = self.policy.measures if self._looking else frozenset()
        self._taps.listen(what | {"fired"} if self._recording else what)

    def _say(self, what: str) -> None:
        warn(f"Recycler: {what}")

    # Making units anew

    @torch.no_grad()
    def _recycle(self, chosen: Mapping[str, Chosen]) -> None:
        """All outgoing weights first: a row that is itself made anew may read recycled units, whose outputs are new too."""
        self._check_there(chosen)
        if self._resampling is not None and not self._resample(self._resampling, chosen):
            return
        units = {name: found.units.tolist() for name, found in chosen.items()}
        if self._resampling is None:
            for name, found in chosen.items():
                silence(self.sites[name], units[name], found.means, self._put)
            for name, numbers in units.items():
                renew(self.sites[name], numbers, self._draws, self._put)
            torch.clear_autocast_cache()  # which holds copies of the weights as they were
        for name, numbers in units.items():
            self.recycled += len(numbers)
            self._since[name][numbers] = True
            self._waiting[name][numbers] = True
            self._revived[name][numbers] = False

    def _resample(self, resampling: Resampling, chosen: Mapping[str, Chosen]) -> bool:
        (found,) = chosen.values()
        reason = resampling.turn(found.units, self._optimizers, self._draws.generator)
        if reason and "resampling" not in self._said:
            self._said.add("resampling")
            self._say(f"{reason} in step {self.steps}, so that no latent is resampled in such a step")
        return not reason

    def _put(self, part: Part, places: Tensor, values: Tensor | float) -> None:
        """Write, and have the optimizers forget."""
        part.put(part.target.detach(), places, values)
        if part.target.grad is not None and not part.target.grad.is_sparse:
            part.put(part.target.grad, places, 0.0)
        for tensor, start in remembered(self._optimizers, part.target):
            part.put(tensor, places, part.take(part.target.detach(), places) if start is None else start)

    # Records

    def _fates(self, seen: Mapping[str, Measured]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(units that revived, units that died again), bool by site: of those that were recycled before this step's end."""
        revived, died = {}, {}
        for name, measured in seen.items():
            if measured.fired is not None:
                fires = measured.fired.cpu()
                revived[name], died[name] = self._waiting[name] & fires, self._revived[name] & ~fires
                self._revived[name] = (self._revived[name] | revived[name]) & ~died[name]
                self._waiting[name] = (self._waiting[name] | died[name]) & ~revived[name]
        return revived, died

    def _record(self, revived: Mapping[str, Tensor], died: Mapping[str, Tensor]) -> None:
        record = RecycleRecord(self.steps - 1, _numbers(self._since), _numbers(revived), _numbers(died), self.recycled)
        for mask in self._since.values():
            mask.zero_()
        if self._group is None or torch.distributed.get_rank(self._group) == 0:
            for sink in list(self.sinks):
                try:
                    sink.write(record)  # type: ignore[arg-type]
                except Exception as error:  # of no training's doing, so it ends none
                    self.sinks.remove(sink)
                    self._say(f"{type(sink).__name__} takes no records of it any more: {type(error).__name__}: {error}")

    # Resuming

    def state_dict(self) -> dict[str, Any]:
        """Everything that goes on, of a Recycler between two steps: plain data and tensors, which are copies.

        Save it with the network, the optimizer and torch's own state of random numbers; a training that is resumed from all
        four goes on as if it had not stopped, bit for bit.
        """
        fates = zip(("since", "waiting", "revived"), (self._since, self._waiting, self._revived), strict=True)
        return {
            "policy": type(self.policy).__name__,
            "settings": _settings(self.policy),
            "steps": self.steps,
            "recycled": self.recycled,
            "due": [self._looking, self._recording],
            "random": self._draws.generator.get_state(),
            "sites": {name: _copied(state) for name, state in self._state.items()},
            **{key: {name: mask.clone() for name, mask in masks.items()} for key, masks in fates},
        }

    def _check_state(self, state: Mapping[str, Any]) -> None:
        name, settings = type(self.policy).__name__, _settings(self.policy)
        if state.get("policy") != name:
            raise ValueError(f"the state is of the policy {state.get('policy')}, and this is {name}")
        saved = state.get("settings", settings)  # states saved before there were any go on
        if not isinstance(saved, Mapping):
            raise ValueError(f"the state is broken: 'settings' is {saved!r}")
        other = [key for key in settings if saved.get(key) != settings[key]]
        if other:
            theirs, ours = (", ".join(f"{key}={of.get(key)!r}" for key in other) for of in (saved, settings))
            raise ValueError(f"the state is of {name} with {theirs}, and this one has {ours}")
        units = {name: site.units for name, site in self.sites.items()}
        since = state.get("since")
        if (
            isinstance(since, Mapping)
            and all(isinstance(mask, Tensor) and mask.dim() for mask in since.values())
            and (found := {name: len(mask) for name, mask in since.items()}) != units
        ):
            raise ValueError(f"the state is of a network with the sites and units {found}; this one has {units}")
        for key, mine in self.state_dict().items():
            if key == "settings":
                continue
            if key not in state:
                raise ValueError(f"the state is broken: it lacks {key!r}")
            where = _unlike(mine, state[key], repr(key))
            if where is not None or (key == "due" and [*map(type, state[key])] != [bool, bool]):
                raise ValueError(
                    f"the state is broken: {where or repr(key)} is not what a Recycler of {name} keeps there"
                )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of another policy or of other settings, of a network with other sites or units, or broken; nothing
                was changed then.
        """
        self._check_state(state)
        self.steps, self.recycled = state["steps"], state["recycled"]
        self._draws.generator.set_state(state["random"].cpu())
        for name, of in state["sites"].items():
            self._state[name] = _copied(of, self._able[name].device)
        for key, masks in (("since", self._since), ("waiting", self._waiting), ("revived", self._revived)):
            masks.update({name: mask.cpu().clone() for name, mask in state[key].items()})
        self._taps.take()
        self._looking, self._recording = state["due"]
        self._listen()


def _settings(policy: Policy) -> dict[str, Any]:
    return dataclasses.asdict(policy) if dataclasses.is_dataclass(policy) else {}


def _unlike(mine: Any, theirs: Any, where: str) -> str | None:
    """Where one state is not made as the other: other keys, types, shapes."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping) and mine.keys() == theirs.keys():
        places = (_unlike(mine[key], theirs[key], f"{where}, {key!r}") for key in mine)
        return next((place for place in places if place is not None), None)
    if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
        return None if (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype) else where
    return None if type(mine) is type(theirs) and not isinstance(mine, Mapping) else where


def _check_shown(model: nn.Module, seen: Seen) -> None:
    """Whether outputs can tell that something changed."""
    name = type(model).__name__
    if not any(output.numel() for output in seen.outputs):
        raise ValueError(f"no output of {name} on the probe has a number in it: give it samples")
    if not any(bool(output.isfinite().any()) for output in seen.outputs):
        raise ValueError(
            f"no output of {name} on the probe is finite, by which to tell whether a unit is read elsewhere"
        )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, by each of their names."""
    parameters, buffers = (named(remove_duplicate=False) for named in (model.named_parameters, model.named_buffers))
    return {**dict(parameters), **dict(buffers)}


def _numbers(masks: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: mask.nonzero().flatten().tolist() for name, mask in masks.items() if mask.any()}


def _copied(state: Mapping[str, Any], device: torch.device | None = None) -> dict[str, Any]:
    return {
        key: value.to(device or value.device).clone() if isinstance(value, Tensor) else value
        for key, value in state.items()
    }


def _of_first_rank(seed: int, group: Any) -> int:
    if group is None:
        return seed
    told = [seed]
    torch.distributed.broadcast_object_list(told, group=group, group_src=0)
    return told[0]
