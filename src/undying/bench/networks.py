"""The networks that a form is measured in, all with the same weights and data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.bench.forms import FORMS, Form
from undying.lab.models.mlp import mlp
from undying.treat.convert import convert_

NETWORK_FORMS = tuple(form for form in FORMS if form.network)
NETWORK_BASELINE = "nn.ReLU inplace"
"""As torchvision's networks come."""


@dataclass(frozen=True)
class Workload:
    """One network with one form in it, a batch, and the loss of a forward pass."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    form: Form

    def loss(self, run: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Cross-entropy of the batch; ``run`` in the place of the model, such as the compiled one."""
        with self.form.around():
            return F.cross_entropy((run or self.model)(self.images), self.labels)


def resnet18(batch: int, side: int) -> tuple[nn.Module, Tensor]:
    """torchvision's, with random weights, and ``batch`` images of ``side`` pixels.

    Raises:
        UndyingError: torchvision is not there.
    """
    models = need("torchvision.models", "vision", "resnet18")
    return models.resnet18(num_classes=10), torch.randn(batch, 3, side, side)


def plain_mlp(batch: int, side: int) -> tuple[nn.Module, Tensor]:
    """Four hidden layers of 1024 units on images of one channel."""
    return mlp((1, side, side), 10, depth=4, width=1024), torch.randn(batch, 1, side, side)


MODELS: dict[str, Callable[[int, int], tuple[nn.Module, Tensor]]] = {"resnet18": resnet18, "mlp": plain_mlp}
"""name -> function of (images in a batch, their side in pixels)."""


def workload(name: str, form: Form, batch: int, side: int, seed: int, device: str = "cpu") -> Workload:
    """The network of this name with ``form`` in the place of every ReLU; the same weights and batch for every form."""
    if name not in MODELS:
        raise UndyingError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model, images = MODELS[name](batch, side)
        labels = torch.randint(10, (batch,))
    convert_(model, lambda _: form.make())
    return Workload(model.to(device).train(), images.to(device), labels.to(device), form)
