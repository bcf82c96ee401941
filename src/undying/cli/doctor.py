"""``undying doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from undying.ops import dispatch


@dataclass(frozen=True)
class DoctorCommand:
    """Show how activations are computed here, and why."""

    def __call__(self, _: object = None) -> int:
        for name, value in dispatch.report().items():
            print(f"{name:<16}{value}")  # to no console: this works without the extra
        return 0
