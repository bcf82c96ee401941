"""Count the units of one training step, and end no training by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from undying._base.patterns import Skip
from undying._torch import disable_torch_function
from undying.census.call_names import CallNames
from undying.census.counting import Counter, _Call
from undying.census.outputs import Given
from undying.census.site_counts import SiteCounts


class StepCounter(Counter):
    """Counts one step. A site that cannot be counted is left out, by name, rather than end the training.

    Args:
        model, axes, skip, outputs: as for the counter.
        names, units, left_out: of all steps so far: names of calls, units by site, of which one that they vary of is left
            out, and the reason by site.
    """

    def __init__(
        self,
        model: nn.Module,
        axes: Mapping[str, int],
        skip: Skip,
        outputs: Given,
        names: CallNames,
        units: dict[str, int],
        left_out: dict[str, str],
    ) -> None:
        super().__init__(model, axes, False, skip, outputs)
        self.names, self._units, self.left_out = names, units, left_out

    def _begin(self, label: str, kind: type[nn.Module], x: Tensor, *rest: Any) -> Any:
        try:
            with disable_torch_function():  # another watch's counter would take this for the model's doing
                return super()._begin(label, kind, x, *rest)
        except Exception as error:
            self._leave_out(self.names.latest, str(error))
            return _Call(self.names.latest, x, None, None)

    def _counts_at(self, name: str, kind: type[nn.Module], units: int, *rest: Any) -> SiteCounts | None:
        counts = super()._counts_at(name, kind, units, *rest)
        if counts is None or self._units.setdefault(name, units) == units:
            return counts
        self._leave_out(name, f"it had {self._units[name]} units in one step and {units} in another")
        return None

    def _returned(self, name: str, value: Any) -> Any:
        try:
            return super()._returned(name, value)
        except Exception as error:
            self._leave_out(name, str(error))
            return value

    def _end(self, call: Any, h: Tensor) -> None:
        try:
            with disable_torch_function():
                super()._end(call, h)
        except Exception as error:
            self._leave_out(call.counts.name, str(error))

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = reason
        self.counts.pop(name, None)
