"""Count the units of one training step, and end no training by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from undying._base.patterns import Skip
from undying._torch import disable_torch_function
from undying.census.counting import Counter, _Call


class StepCounter(Counter):
    """Counts one step. A site that cannot be counted is left out, by name, rather than end the training.

    Args:
        model, axes, skip: as for the counter.
        units: units by site, as seen in all steps so far; a site of which they vary is left out.
        left_out: the reason by site.
    """

    def __init__(
        self, model: nn.Module, axes: Mapping[str, int], skip: Skip, units: dict[str, int], left_out: dict[str, str]
    ) -> None:
        super().__init__(model, axes, False, skip)
        self._units, self.left_out = units, left_out

    def _begin(self, label: str, kind: type[nn.Module], x: Tensor, *rest: Any) -> Any:
        try:
            with disable_torch_function():  # another watch's counter would take this for the model's doing
                call = super()._begin(label, kind, x, *rest)
            name = self._name_of_call(label)
            if call.counts is None or self._units.setdefault(name, call.counts.units) == call.counts.units:
                return call
            reason = f"it had {self._units[name]} units in one step and {call.counts.units} in another"
        except Exception as error:
            reason = str(error)
        self._leave_out(self._name_of_call(label), reason)
        return _Call(x, None, None)

    def _end(self, call: Any, h: Tensor) -> None:
        try:
            with disable_torch_function():
                super()._end(call, h)
        except Exception as error:
            self._leave_out(call.counts.name, str(error))

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = reason
        self.counts.pop(name, None)
