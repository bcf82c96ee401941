"""``undying doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from undying.ops import dispatch


@dataclass(frozen=True)
class DoctorCommand:
    """Show how activations are computed here, and why."""

    def __call__(self, _: object = None) -> int:
        lines = dispatch.report()
        width = max(map(len, lines)) + 2
        for name, value in lines.items():
            print(f"{name:<{width}}{value}")  # to no console: this works without the extra
        return 0
