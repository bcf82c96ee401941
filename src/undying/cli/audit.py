"""``undying audit``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console

from undying._base.errors import UndyingError
from undying.lab.models import load_model, target
from undying.treat.convert import audit


@dataclass(frozen=True)
class AuditCommand:
    """Show where a network has its activations, and what convert_ would leave alone."""

    model: tyro.conf.Positional[str]
    """Network: torchvision:NAME, timm:NAME, or package.module:function, which takes no arguments and returns one."""
    example: tuple[str, ...] = ()
    """Shape of each input, with :dtype where it is not float32, such as 1,3,224,224 or 1,16:int64. Without it, calls in
    a forward are not found. Networks of torchvision and timm get 1,3,224,224."""
    targets: tuple[str, ...] = ("ReLU",)
    """Types of torch.nn to look for, such as ReLU, GELU, SiLU, or registered ones."""

    def __call__(self, console: Console) -> int:
        shapes = self.example or (("1,3,224,224",) if self.model.startswith(("torchvision:", "timm:")) else ())
        example = tuple(_example(shape) for shape in shapes) or None
        model = load_model(self.model)
        targets = [target(name) for name in self.targets]  # after it, since its module may register some
        report = audit(model, example, targets)
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)
        calls = sum(row.calls or 0 for row in report.rows if row.alias_of is None)
        counted = (
            f", {calls} calls in a forward pass"
            if example
            else "; no --example, so calls in a forward were not looked for"
        )
        console.print(f"{len(report.rows)} sites{counted}; {len(report.left)} would be left alone", highlight=False)
        return 0


def _example(spec: str) -> torch.Tensor:
    shape, _, name = spec.partition(":")
    dtype = getattr(torch, name or "float32", None)
    try:
        sizes = [int(size) for size in shape.split(",")]
    except ValueError:
        sizes = []
    if not isinstance(dtype, torch.dtype) or not sizes or min(sizes) < 0 or math.prod(sizes) >= 2**40:
        raise UndyingError(
            f"--example {spec!r} must be a shape that fits in memory, such as 1,3,224,224 or, with a dtype, 1,16:int64"
        )
    return torch.rand(sizes).to(dtype)
