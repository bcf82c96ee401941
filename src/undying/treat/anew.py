"""New weights for units, and outgoing weights of 0, as edits."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from undying.treat.edits import Edits
from undying.treat.flow import Made, Slot, few, like
from undying.treat.reach import Reach

INITS = ("default", "kaiming", "scaled", "recenter")


class Anew:
    """Makes the edits that recycle chosen units.

    Args:
        model: whose layers say how they begin.
        reach: of its flow.
        free: bool over ids: what may be made anew.
        init: one of ``INITS``.
        seed: of the draws.
    """

    def __init__(self, model: nn.Module, reach: Reach, free: Tensor, init: str, seed: int) -> None:
        self.model, self.reach, self.free, self.init = model, reach, free, init
        self.moved = False
        """Whether the last edits moved what units said into something behind."""
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            self._random = torch.get_rng_state()

    def edits(self, units: Mapping[str, Tensor], middle: Mapping[str, Tensor]) -> Edits:
        """What recycling ``units`` (bool, by site) changes.

        Args:
            units: which.
            middle: by site, float64 over units: median of the pre-activation; for ``recenter``.
        """
        edits = Edits()
        if self.init == "recenter":
            self.recenter(edits, units, middle)
        else:
            self.draw(edits, units)
        self._silence(edits, units)
        return edits

    def draw(self, edits: Edits, units: Mapping[str, Tensor]) -> None:
        """Make what makes ``units`` anew."""
        ids = self._ids(units)
        changed = ids.clone()
        with self._drawing():
            for made in self.reach.flow.made:
                own = ids[made.ids]
                if made.kind != "site":
                    changed[made.child[changed[made.parent]]] = True
                if not own.any():
                    continue
                fresh: dict[nn.Module, nn.Module] = {}
                for slot in made.slots:
                    if slot.parameter is not None:
                        self._put(edits, slot, ids[slot.rows], self._values(made, slot, ids, fresh))
                behind = torch.zeros(made.count, dtype=torch.bool)
                behind[made.child[changed[made.parent]] - made.first] = True
                for module, name, start in made.running:
                    buffer = module.get_buffer(name)
                    edits.put(buffer, own & behind, torch.full(buffer.shape, start))

    def mirror(self, edits: Edits, units: Mapping[str, Tensor]) -> None:
        """Give the weights of ``units`` the opposite sign, which is as likely a draw; a unit that was <= 0 on all of the
        probe fires then."""
        ids = self._ids(units)
        for made in self.reach.flow.made:
            for slot in made.slots if made.kind == "weighted" else ():
                if slot.parameter is not None and ids[made.ids].any():
                    self._put(edits, slot, ids[slot.rows], -slot.given.detach().cpu())

    def without_weights(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of which no weight is drawn, but the row of a norm alone is set back."""
        found = {name: mask.clone() for name, mask in units.items()}
        for name, mask in units.items():
            for unit, made, _ in self.reach.makers(name, mask, self.free):
                if made.kind == "weighted":
                    found[name][unit] = False
        return found

    def recenter(self, edits: Edits, units: Mapping[str, Tensor], middle: Mapping[str, Tensor]) -> None:
        """Move biases so that ``units`` fire on half of the probe.

        Args:
            edits: where to.
            units: bool, by site.
            middle: by site, float64 over units: median of the pre-activation.
        """
        for name, mask in units.items():
            for unit, bias, at in self._biases(name, mask):
                self._put(edits, bias, bias.rows == at, bias.given.detach().cpu().double() - middle[name][unit])

    def cannot_recenter(self, name: str, units: Tensor) -> Iterator[tuple[int, str]]:
        """Units that no bias moves, with the reason."""
        moved = {unit for unit, _, _ in self._biases(name, units)}
        for unit in units.nonzero().flatten().tolist():
            if unit not in moved:
                yield unit, "what makes it has no bias that could be moved; another init draws its weights"

    def _ids(self, units: Mapping[str, Tensor]) -> Tensor:
        """bool over ids: what makes ``units``."""
        ids = torch.zeros_like(self.free)
        for name, chosen in units.items():
            for _, _, at in self.reach.makers(name, chosen, self.free):
                ids[at] = True
        return ids

    def _biases(self, name: str, units: Tensor) -> Iterator[tuple[int, Slot, Tensor]]:
        """(unit, bias, id): a bias that is added to the pre-activation as it is."""
        direct = self.reach.direct(name)
        seen = set()
        for unit, made, at in self.reach.makers(name, units, self.free):
            bias = made.bias
            if unit not in seen and bias is not None and bias.parameter is not None and bool(direct[at]):
                seen.add(unit)
                yield unit, bias, at

    def _silence(self, edits: Edits, units: Mapping[str, Tensor]) -> None:
        """Outgoing weights to 0, and what they gave on average into the bias behind them."""
        active = self.reach.active(units)
        self.moved = False
        for made in self.reach.flow.made:
            if made.reading is None or (parameter := made.reading.weight.parameter) is None:
                continue
            reading, weight = made.reading, made.reading.weight
            if not active[self.reach.origin[reading.ids]].any():
                continue
            zero = active[self.reach.columns(reading)]
            # A row that is itself made anew reads the recycled units too.
            zero &= ~weight.on(edits.mask_of(parameter))
            mask = like(parameter, torch.bool)
            weight.on(mask).copy_(zero)
            edits.put(parameter, mask, torch.zeros(()).expand(mask.shape))
            if not (active[self.reach.origin[few(reading.columns)]] & (few(reading.mean) != 0)).any():
                continue
            self.moved = True
            moved = _by_unit(made, weight, torch.where(zero, weight.given.detach().cpu().double() * reading.mean, 0))
            target = self.reach.shifted(made)
            if isinstance(target, Slot):
                by_place = moved[(target.rows - made.first).view(target.given.shape)]
                self._put(edits, target, by_place != 0, target.given.detach().cpu().double() + by_place)
            elif target is not None and moved.any():
                buffer = target[0].get_buffer(target[1])
                edits.put(buffer, moved != 0, buffer.detach().cpu().double() - moved)

    def _put(self, edits: Edits, slot: Slot, mask: Tensor, values: Tensor) -> None:
        assert slot.parameter is not None
        whole, new = like(slot.parameter, torch.bool), like(slot.parameter, values.dtype)
        slot.on(whole).copy_(mask)
        slot.on(new).copy_(values)
        edits.put(slot.parameter, whole, new)

    def _values(self, made: Made, slot: Slot, ids: Tensor, fresh: dict[nn.Module, nn.Module]) -> Tensor:
        """What a slot begins with; of its rows only those in ``ids`` count."""
        shape = slot.given.shape
        if made.kind != "weighted":
            return torch.full(shape, 0.0 if slot.is_bias else 1.0)
        if self.init == "default" and (own := self._as_owner_draws(slot, fresh)) is not None:
            return own
        fan_in = next(slot.given.numel() for slot in made.slots if not slot.is_bias) / made.count
        if self.init == "default":  # what torch's linear and convolution layers do
            return (2 * torch.rand(shape) - 1) / math.sqrt(fan_in)
        if slot.is_bias:
            return torch.zeros(shape)
        drawn = torch.randn(shape) * math.sqrt(2 / fan_in)
        if self.init == "scaled":
            living = ~ids[made.ids]
            squares = (slot.given.detach().cpu().float().square(), drawn.square())
            norms, sizes = (_by_unit(made, slot, values).sqrt() for values in squares)
            if living.any():
                drawn = drawn * (norms[living].mean() / sizes).float()[slot.rows - made.first]
        return drawn

    def _as_owner_draws(self, slot: Slot, fresh: dict[nn.Module, nn.Module]) -> Tensor | None:
        """By the ``reset_parameters`` of the layer that holds it; None where there is no such layer."""
        for owner in self.model.modules():
            for key, parameter in owner._parameters.items():
                if parameter is None or parameter is not slot.parameter:
                    continue
                if hasattr(owner, "reset_parameters") and not owner._modules:
                    if owner not in fresh:
                        fresh[owner] = copy.deepcopy(owner).cpu()
                        fresh[owner].reset_parameters()  # type: ignore[operator]
                    whole = like(parameter, parameter.dtype)
                    whole.copy_(fresh[owner]._parameters[key])  # type: ignore[arg-type]
                    return slot.on(whole)
        return None

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Draws are on the CPU and go on from those before; the user's generators stay as they are."""
        with torch.random.fork_rng([]), torch.no_grad():
            torch.set_rng_state(self._random)
            yield
            self._random = torch.get_rng_state()


def _by_unit(made: Made, slot: Slot, values: Tensor) -> Tensor:
    """Sum of ``values``, one for each element of a slot, by the units that a call makes."""
    rows = (slot.rows - made.first).flatten()
    return torch.zeros(made.count, dtype=torch.float64).index_add_(0, rows, values.double().flatten())
