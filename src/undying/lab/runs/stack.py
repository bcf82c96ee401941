"""Networks of one form trained in one step: what is done to every element is done once for all of them, and each has its
matrix products to itself, so that every bit is that of a network trained alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undying.activations.known import FACTS
from undying.activations.sugar import SUGAR
from undying.ops.autograd import is_built_in

_ELEMENTWISE = {
    kind for kind in FACTS if kind.__module__.split(".")[0] in ("torch", "undying") and kind not in (nn.PReLU, nn.RReLU)
}
"""Types of activations without weights or draws, whose every output depends on one input. Of what users bring that is not
known."""
_VECTOR = 64
"""Elements. Vector instructions leave a rest that is computed otherwise, and rounded otherwise, unless the elements of
each network come in whole vectors of whatever length."""


def layers_of(model: nn.Module) -> list[nn.Module] | None:
    """The layers of a network in the order of its forward pass; None where it cannot be stacked: it is no plain chain of
    linear layers and activations, or its weights are not all trained, or not each once."""
    every = [module for _, module in model.named_modules(remove_duplicate=False)]
    layers = [module for module in every if type(module) is not nn.Sequential]
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    weights = [p for layer in linear for p in layer.parameters()]
    fits = (
        type(model) is nn.Sequential
        and bool(linear)
        and all(_fits(layer) for layer in layers)
        and len(weights) == len(list(model.parameters()))
        and all(p.requires_grad and p.dtype == torch.float32 and p.is_contiguous() for p in weights)
        and not any(_hooked(module) for module in every)
    )
    return layers if fits else None


def _fits(layer: nn.Module) -> bool:
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if type(layer) is SUGAR:
        return is_built_in(layer.surrogate)
    return type(layer) in (nn.Linear, nn.Identity) or type(layer) in _ELEMENTWISE


def _hooked(module: nn.Module) -> bool:
    return any(
        getattr(module, name)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    )


class Stack:
    """Networks of one form, with the weights of all in one tensor each.

    Args:
        models: the networks; ``layers_of`` gives layers of each.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        self._own = [list(model.parameters()) for model in models]
        self.weights = [_Weight(same) for same in zip(*self._own, strict=True)]
        """Of each parameter of a network, in their order."""
        at = {id(p): weight for p, weight in zip(self._own[0], self.weights, strict=True)}
        layers = layers_of(models[0])
        assert layers is not None
        self._steps = [_step(layer, at) for layer in layers]

    @property
    def parameters(self) -> list[Tensor]:
        """What an optimizer is to train."""
        return [tensor for weight in self.weights for tensor in weight.trained]

    def __call__(self, x: Tensor) -> Tensor:
        """(networks, samples, ...) -> (networks, samples, outputs)."""
        for step in self._steps:
            x = step(x)
        return x

    def gradients(self, index: int) -> list[Tensor]:
        """Of one network, a view of each."""
        return [weight.gradient(index) for weight in self.weights]

    def values(self, index: int) -> list[Tensor]:
        """The parameters of one network, a view of each."""
        return [weight.value(index) for weight in self.weights]

    @torch.no_grad()
    def write_back(self, index: int) -> None:
        """Give one network its weights as they are now."""
        for own, value in zip(self._own[index], self.values(index), strict=True):
            if own is not value:
                own.copy_(value)

    def write_back_state(self, index: int, optimizer: torch.optim.Optimizer, to: torch.optim.Optimizer) -> None:
        """Give the optimizer of one network what the optimizer of all holds of it."""
        to.state.clear()
        for own, weight in zip(self._own[index], self.weights, strict=True):
            to.state[own] = weight.state(index, optimizer)


class _Weight:
    """One parameter of all networks: in one tensor, or, where vectors would not come out even, each for itself."""

    def __init__(self, same: Sequence[nn.Parameter]) -> None:
        self.whole = same[0].numel() % _VECTOR == 0
        if self.whole:
            self.stacked = torch.stack([p.detach() for p in same]).requires_grad_()
            self.trained: list[Tensor] = [self.stacked]
        else:
            self.trained = list(same)

    def all(self) -> Tensor:
        return self.stacked if self.whole else torch.stack(self.trained)

    def value(self, index: int) -> Tensor:
        return self.stacked.detach()[index] if self.whole else self.trained[index]

    def gradient(self, index: int) -> Tensor:
        found = self.stacked.grad if self.whole else self.trained[index].grad
        assert found is not None
        return found[index] if self.whole else found

    def state(self, index: int, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        held = optimizer.state[self.trained[0 if self.whole else index]]
        return {
            name: (value[index] if self.whole and value.ndim else value).clone()  # all share the count of steps
            for name, value in held.items()
            if isinstance(value, Tensor)
        }


def _step(layer: nn.Module, weights: dict[int, _Weight]) -> Callable[[Tensor], Tensor]:
    if type(layer) is nn.Flatten:
        return lambda x: x.flatten(2)
    if type(layer) is nn.Linear:
        weight = weights[id(layer.weight)]
        bias = weights[id(layer.bias)] if layer.bias is not None else None
        return lambda x: _Linear.apply(x, weight.all(), bias.all() if bias else None)
    return lambda x: _activated(layer, x)


def _activated(activation: nn.Module, x: Tensor) -> Tensor:
    """All at once where each network's elements come in whole vectors, else one network after the other."""
    if _is_whole(x):
        whole: Tensor = activation(x)
        return whole
    return torch.stack([activation(part) for part in x.unbind()])


class _Linear(torch.autograd.Function):
    """``F.linear`` of each network: batched products, of the same matrices as autograd multiplies for one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        transposed = weight.transpose(1, 2)
        return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, transposed)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_y = gradients[0]
        of_x = torch.bmm(of_y, weight) if ctx.needs_input_grad[0] else None
        return of_x, torch.bmm(of_y.transpose(1, 2), x), of_y.sum(1) if ctx.biased else None


def _is_whole(x: Tensor) -> bool:
    """Whether the elements of each network come in whole vectors."""
    return x[0].numel() % _VECTOR == 0
