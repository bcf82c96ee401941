"""torch.compile's backends: whether the default one can work here, and several for one trace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None
"""As inductor looks for a C++ compiler; the package does not need one."""


class InTurn:
    """Several backends for one trace of Dynamo's, which takes most of the time; ``name`` is the one that computes."""

    def __init__(self, *names: str) -> None:
        self.names, self.name = names, names[0]

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        compiled = {name: torch._dynamo.lookup_backend(name)(graph, inputs) for name in self.names}
        return lambda *arguments: compiled[self.name](*arguments)
