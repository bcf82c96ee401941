"""What a plot over steps is made of."""

from __future__ import annotations

from typing import Protocol


class Scalars(Protocol):
    """A record of :func:`undying.watch`, or an epoch of a run."""

    @property
    def step(self) -> int: ...

    def scalars(self) -> dict[str, float]:
        """Values by name."""
        ...
