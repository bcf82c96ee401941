"""What a policy is: which units are recycled, decided at the end of a step from what was measured in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from undying.treat.policies.taps import Measured
from undying.treat.policies.wiring import Site

State = dict[str, Any]
"""What a policy remembers of a site: tensors on the device, numbers, lists of numbers."""


@dataclass(frozen=True)
class Look:
    """What a policy is shown of a site at the end of a step."""

    site: Site
    able: Tensor
    """bool over units, on the device: which can be recycled."""
    state: State
    """What it remembers, to be changed in place."""
    seen: Measured


@dataclass(frozen=True)
class Chosen:
    """Units of a site that are recycled now."""

    units: Tensor
    """int64: their numbers."""
    means: Tensor | None = None
    """float: what each gave on average, which moves into the bias behind it; None: nothing moves."""


class Policy:
    """Base of the policies, which hold settings alone; what they remember is in a :class:`undying.Recycler`."""

    measures: ClassVar[frozenset[str]] = frozenset()
    """What it needs of :class:`Measured`."""

    def listens(self, step: int) -> bool:
        """Whether it looks at the step of this number, counted from 1."""
        return step > 0

    def begin(self, able: Tensor) -> State:  # noqa: ARG002
        """What is remembered of a site at the start; ``able``: as in :class:`Look`."""
        return {}

    def update(self, looks: Sequence[Look]) -> None:
        """Remember what was seen of all sites, at the end of a step that it looked at; before it is asked to choose."""

    def choose(self, look: Look) -> Chosen | None:
        """The units to recycle at the end of a step that it looked at; None: certainly none."""
        raise NotImplementedError


def small(values: Tensor, tau: float, able: Tensor) -> Chosen:
    """Units that have at most ``tau`` times the mean over all units of a site."""
    return Chosen((able & (values <= tau * values.mean())).nonzero().flatten())


def share(name: str, value: float) -> None:
    """Check a setting.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")


def whole(name: str, value: int, least: int = 1) -> None:
    """Check a setting.

    Raises:
        ValueError: it is no whole number of at least ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
