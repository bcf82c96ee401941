"""What is compared: one line a form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from undying.activations.barelu import BAReLU
from undying.activations.sugar import SUGAR
from undying.bench.public import FunctionSUGAR, InjectedSUGAR, LiteralBAReLU
from undying.ops.lean import lean
from undying.surrogates import SURROGATES

BASELINE = "nn.ReLU"
LIMIT = "copy + triad"
"""The bandwidth limit: the same reads and writes as a forward and a backward pass, with nothing computed or allocated."""


@dataclass(frozen=True)
class Form:
    """One way to compute an activation."""

    name: str
    make: Callable[[], nn.Module]
    inplace: bool = False
    """It overwrites its input."""
    compiled: bool = False
    """It runs under torch.compile."""
    network: bool = False
    """It is measured inside networks too."""
    alone: bool = True
    """It is measured by itself."""
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """The forward pass of a network runs inside of this."""


FORMS: tuple[Form, ...] = (
    Form(BASELINE, nn.ReLU, network=True),
    Form("nn.ReLU inplace", lambda: nn.ReLU(inplace=True), inplace=True, network=True),
    Form("nn.ReLU compiled", nn.ReLU, compiled=True),
    Form("nn.LeakyReLU", nn.LeakyReLU, network=True),
    Form("nn.SiLU", nn.SiLU, network=True),
    Form("nn.GELU", nn.GELU),
    Form("nn.Mish", nn.Mish),
    Form("SUGAR bsilu", SUGAR, network=True),
    Form("SUGAR lean", SUGAR, network=True, alone=False, around=lean),
    *(Form(f"SUGAR {name}", lambda name=name: SUGAR(name)) for name in SURROGATES if name != "bsilu"),  # type: ignore[misc]
    Form("SUGAR compiled", SUGAR, compiled=True),
    Form("BAReLU", BAReLU, network=True),
    Form("BAReLU inplace", lambda: BAReLU(inplace=True), inplace=True, network=True),
    Form("BAReLU eps=1e-4", lambda: BAReLU(eps=1e-4), network=True),
    Form("Function SUGAR", FunctionSUGAR, network=True),
    Form("Function SUGAR compiled", FunctionSUGAR, compiled=True),
    Form("injected SUGAR", InjectedSUGAR, network=True),
    Form("injected SUGAR compiled", InjectedSUGAR, compiled=True),
    Form("literal BAReLU", LiteralBAReLU, network=True),
)
