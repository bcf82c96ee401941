"""``undying doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from undying.ops import dispatch


@dataclass(frozen=True)
class DoctorCommand:
    """Show how activations are computed here, and why."""

    def __call__(self, console: Console) -> int:
        for name, value in dispatch.report().items():
            console.print(f"{name:<16}{value}", markup=False, highlight=False, soft_wrap=True)
        return 0
