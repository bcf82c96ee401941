"""Make units anew: new values for what makes them, and 0 for what weighs them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from undying.treat.flow import Slot
from undying.treat.policies.parts import Part
from undying.treat.policies.wiring import Maker, Reader, Site
from undying.treat.probe import Probe

INITS = ("default", "kaiming")

Put = Callable[[Part, Tensor, Tensor | float], None]
"""Writes values at places of a part."""

_ROUNDING = 1e-5
"""How much of an output may change with what is not weighed: kernels that add in another order each time do that."""


def silence(site: Site, units: list[int], means: Tensor | None, put: Put) -> None:
    """Outgoing weights to 0. ``means``, what the units give on average, moves into what is behind."""
    for reader in site.readers:
        places, which = reader.part.places(units)
        if not len(places):
            continue
        if means is not None and reader.into is not None:
            _move(reader, places, means[which.to(means.device)])
        put(reader.part, places, 0.0)


def renew(site: Site, units: list[int], draws: Draws, put: Put) -> None:
    """New values for what makes the units."""
    for maker in site.makers:
        places, _ = maker.part.places(units)
        if len(places):
            put(maker.part, places, draws.values(maker, places))


def heard_elsewhere(sites: Collection[Site], probe: Probe, seed: int) -> list[str]:
    """Names of sites whose units are read by something that is not followed, as a scripted module, so that outputs would
    change when they begin anew. The network stays as it was."""
    halves = [[(site, site.able.nonzero().flatten()[half::2].tolist()) for site in sites] for half in (0, 1)]
    # A half of the units at a time: through the others a change gets to the outputs.
    if not any(_changes(half, probe, seed) for half in halves):
        return []
    alone = [site.name for site in sites if _changes([(site, site.able.nonzero().flatten().tolist())], probe, seed)]
    return alone or [site.name for site in sites]


@torch.no_grad()
def _changes(chosen: list[tuple[Site, list[int]]], probe: Probe, seed: int) -> bool:
    """Whether an output changes with new weights of units that nothing weighs any more."""
    targets = {id(target): target.detach() for site, _ in chosen for target in site.targets}.values()
    before = [target.clone() for target in targets]
    draws = Draws("default", seed)

    def put(part: Part, places: Tensor, values: Tensor | float) -> None:
        part.put(part.target.detach(), places, values)

    try:
        for site, units in chosen:
            silence(site, units, None, put)
        torch.clear_autocast_cache()  # else a run within autocast sees copies of the weights as they were
        silent = probe.check()
        for site, units in chosen:
            renew(site, units, draws, put)
        torch.clear_autocast_cache()
        return probe.check().beyond(silent, _ROUNDING, silent.sizes) is not None
    finally:
        for target, values in zip(targets, before, strict=True):
            target.copy_(values)
        torch.clear_autocast_cache()


def _move(reader: Reader, places: Tensor, means: Tensor) -> None:
    """What is weighed at these places, with these mean values, into what is behind."""
    part, into = reader.part, reader.into
    assert into is not None
    weights = part.take(part.target.detach(), places)
    shape = [-1 if d == part.axis else 1 for d in range(weights.dim())] if part.axis is not None else [-1]
    said = weights * (means * reader.share).to(weights.dtype).view(shape)
    rows = reader.rows.to(said.device)
    if part.axis is None:
        rows = part.take(rows.expand(part.target.shape), places)
    else:  # one sum for each row, in an order that is always the same
        if rows.shape[part.axis] > 1:
            rows = rows.index_select(part.axis, places.to(rows.device))
        said = said.sum([d for d in range(said.dim()) if rows.shape[d] == 1], keepdim=True)
    moved = said.new_zeros(reader.count).index_add_(0, rows.flatten(), said.flatten())
    if isinstance(into[0], Slot):
        assert into[0].parameter is not None
        assert isinstance(into[1], Tensor)
        bias = into[0].on(into[0].parameter.detach())
        bias += moved[into[1].to(moved.device)]
    else:
        assert isinstance(into[1], str)
        into[0].get_buffer(into[1]).sub_(moved)


class Draws:
    """New values for what makes units, from a stream of its own.

    Args:
        init: one of ``INITS``.
        seed: of the stream.
    """

    def __init__(self, init: str, seed: int) -> None:
        self.init = init
        self.generator = torch.Generator().manual_seed(seed)

    def values(self, maker: Maker, places: Tensor) -> Tensor | float:
        """For these places of a part, as :meth:`Part.take` gives them."""
        target, axis = maker.part.target, maker.part.axis
        if maker.start is not None:
            return maker.start
        if self.init == "default" and maker.owner is not None:
            return maker.part.take(self._drawn_by(*maker.owner), places)
        shape = [len(places)] if axis is None else list(target.shape)
        if axis is not None:
            shape[axis] = len(places)
        if self.init == "default":
            return (2 * torch.rand(shape, generator=self.generator) - 1) * maker.bound
        if maker.is_bias:
            return 0.0
        return torch.randn(shape, generator=self.generator) * maker.deviation

    def _drawn_by(self, owner: nn.Module, key: str) -> Tensor:
        """By ``reset_parameters``; torch's own generator stays as it is."""
        with torch.random.fork_rng([]), torch.no_grad():
            torch.set_rng_state(self.generator.get_state())
            fresh = copy.deepcopy(owner).cpu()
            fresh.reset_parameters()  # type: ignore[operator]
            self.generator.set_state(torch.get_rng_state())
        parameter = fresh._parameters[key]
        assert parameter is not None
        return parameter.detach()
