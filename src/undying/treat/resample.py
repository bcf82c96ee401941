"""Latents of sparse autoencoders towards what is reconstructed badly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from undying.treat.edits import check_held, optimizers_in, reset_state
from undying.treat.recycle import Optimizers

__all__ = ["Latents", "resample_"]


@dataclass(frozen=True)
class Latents:
    """Where an autoencoder has what belongs to each latent."""

    encoder: Tensor
    rows_at: int
    """Which axis of ``encoder`` holds the latents; below of ``decoder``."""
    decoder: Tensor
    columns_at: int
    bias: Tensor | None
    """(latents,), of the encoder."""

    @property
    def parameters(self) -> list[Tensor]:
        return [self.encoder, self.decoder, *([] if self.bias is None else [self.bias])]

    @torch.no_grad()
    def turn(
        self,
        which: Tensor,
        dead: Tensor,
        inputs: Tensor,
        losses: Tensor,
        optimizers: Sequence[torch.optim.Optimizer],
        scale: float,
        generator: torch.Generator | None,
    ) -> None:
        """Give the latents ``which`` directions of samples, and have the optimizers forget them; see :func:`resample_`.

        Args:
            which: int64: their numbers.
            dead: bool (latents,): those whose rows do not count as living.
            inputs, losses, scale, generator: as there; some sample that is not all 0 has a loss.
            optimizers: which hold the parameters.
        """
        rows, columns = self.encoder.movedim(self.rows_at, 0), self.decoder.movedim(self.columns_at, 0)
        chances = losses.detach().double().square() * inputs.detach().any(1)  # a sample of zeros has no direction
        chances = chances if generator is None else chances.to(generator.device)
        drawn = torch.multinomial(chances, len(which), replacement=True, generator=generator)
        directions = nn.functional.normalize(inputs.detach()[drawn.to(inputs.device)], dim=1).to(rows.device)
        living = rows[~dead.to(rows.device)].norm(dim=1)
        length = scale * (living.mean() if len(living) else 1.0)
        rows[which.to(rows.device)] = (directions * length).to(rows.dtype)
        columns[which.to(columns.device)] = directions.to(columns.device, columns.dtype)
        if self.bias is not None:
            self.bias[which.to(self.bias.device)] = 0
        torch.clear_autocast_cache()
        at = zip(self.parameters, (self.rows_at, self.columns_at, 0), strict=False)
        reset_state([*optimizers], [(parameter, _numbers(parameter, axis, which)) for parameter, axis in at])


@torch.no_grad()
def resample_(
    encoder: nn.Linear | nn.Parameter,
    decoder: nn.Linear | nn.Parameter,
    dead: Tensor,
    inputs: Tensor,
    losses: Tensor,
    optimizer: Optimizers = None,
    *,
    bias: nn.Parameter | None = None,
    scale: float = 0.2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Give dead latents the directions of samples that are reconstructed badly, in place.

    Bricken et al. 2023, "Towards Monosemanticity", appendix on neuron resampling: a sample is drawn for each dead latent with
    a chance in proportion to its squared loss. Its direction, of length 1, becomes the latent's decoder column; the encoder row
    is that direction at ``scale`` times the mean norm of the living rows; the latent's bias becomes 0. Where encoder and decoder
    are one weight, its rows get length 1. A sample that is all 0 is not drawn. What the optimizer
    remembers of just these weights, and their gradients, become 0. Outputs change: :func:`undying.recycle_` is what keeps them.

    ``scale=0.2`` is for ReLU. Where latents compete, as in top-k, so small a row is hardly ever chosen: take 1.

    Args:
        encoder: the layer, or its weight, of shape (latents, width) or (width, latents).
        decoder: likewise.
        dead: bool (latents,), as a census's ``silent`` or :meth:`undying.SinceFired.dead` has it.
        inputs: (samples, width), what the encoder is given, without a bias that is taken off before it.
        losses: (samples,), of each sample; at least 0.
        optimizer: what trains the two: one, several, or None.
        bias: of the encoder, where ``encoder`` is a weight.
        scale: of the new encoder rows beside the living ones; with no living row beside 1.
        generator: of the draws; default: torch's own.

    Returns:
        int64: the numbers of the latents that were resampled.

    Raises:
        ValueError: shapes do not fit; a weight of as many latents as inputs that does not say which axis is which; a weight
            that is computed from others, as under weight norm; losses that are negative, not finite or all 0; inputs that
            are not finite; an optimizer that does not hold what would change. Nothing was changed.

    >>> import torch
    >>> encoder, decoder, x = nn.Linear(4, 8), nn.Linear(8, 4), torch.randn(100, 4)
    >>> _ = nn.init.constant_(encoder.bias[:2], -100.0)
    >>> losses = (decoder(encoder(x).relu()) - x).square().sum(1)
    >>> resample_(encoder, decoder, ~(encoder(x) > 0).any(0), x, losses).tolist()
    [0, 1]
    >>> bool((encoder(x) > 0).any(0).all())
    True
    """
    latents = len(dead)
    if dead.dtype != torch.bool or dead.dim() != 1:
        raise ValueError(f"dead must be a bool mask of the latents, not {tuple(dead.shape)} of {dead.dtype}")
    own_bias = encoder.bias if isinstance(encoder, nn.Linear) else bias
    found = Latents(
        _parameter(encoder, "encoder"),
        _latent_axis(encoder, latents, "encoder", 0),
        _parameter(decoder, "decoder"),
        _latent_axis(decoder, latents, "decoder", 1),
        own_bias,
    )
    width, written = (
        weight.shape[1 - axis] for weight, axis in ((found.encoder, found.rows_at), (found.decoder, found.columns_at))
    )
    if written != width or inputs.shape[1:] != (width,) or losses.shape != inputs.shape[:1]:
        raise ValueError(
            f"an encoder of width {width} and a decoder of {written} need inputs (samples, {width}) and a loss for each, "
            f"not {tuple(inputs.shape)} and {tuple(losses.shape)}"
        )
    if own_bias is not None and own_bias.shape != (latents,):
        raise ValueError(f"bias must have {latents} numbers, not {tuple(own_bias.shape)}")
    if reason := none_to_draw(inputs, losses):
        raise ValueError(reason)
    optimizers = optimizers_in(optimizer)
    names = {
        id(p): name
        for p, name in zip(found.parameters, ("encoder.weight", "decoder.weight", "encoder.bias"), strict=False)
    }
    check_held(optimizers, found.parameters, lambda tensor: names[id(tensor)])
    which = dead.nonzero().flatten()
    if len(which):
        found.turn(which, dead, inputs, losses, optimizers, scale, generator)
    return which.cpu()


def none_to_draw(inputs: Tensor, losses: Tensor) -> str:
    """Why no sample can be drawn; empty where one can."""
    if not bool(losses.isfinite().all()) or bool((losses < 0).any()) or not bool(losses.any()):
        return "losses must be finite, at least 0 and not all 0"
    if not bool(inputs.isfinite().all()):
        return "inputs must be finite: a direction of one that is not would go into the weights"
    return "" if bool((losses * inputs.any(1)).any()) else "every sample with a loss is all 0, and has no direction"


def _parameter(layer: nn.Linear | nn.Parameter, name: str) -> nn.Parameter:
    weight = layer.weight if isinstance(layer, nn.Linear) else layer
    computed = isinstance(layer, nn.Linear) and "weight" not in layer._parameters
    if computed or not isinstance(weight, Tensor) or weight.grad_fn is not None:
        raise ValueError(
            f"the weight of the {name} is computed from others, as under weight norm, so that nothing written into it stays: "
            "take the parametrization off first (torch.nn.utils.parametrize.remove_parametrizations)"
        )
    return weight  # type: ignore[return-value]


def _latent_axis(layer: nn.Linear | nn.Parameter, latents: int, name: str, axis: int) -> int:
    """Which axis of the weight holds the latents; ``axis`` where it is a layer's."""
    weight = _parameter(layer, name)
    if weight.dim() != 2 or latents not in weight.shape:
        raise ValueError(f"{name} must have {latents} latents, as dead has, not a weight {tuple(weight.shape)}")
    if not isinstance(layer, nn.Linear):
        if weight.shape[0] == weight.shape[1]:
            raise ValueError(f"{name} is square, which does not say which axis holds the latents: give it as nn.Linear")
        axis = list(weight.shape).index(latents)
    if weight.shape[axis] != latents:
        raise ValueError(f"{name} must have {latents} latents, as dead has, not a weight {tuple(weight.shape)}")
    return axis


def _numbers(parameter: Tensor, axis: int, which: Tensor) -> Tensor:
    """int64: those of the elements that belong to these latents, as the parameter is flattened."""
    numbers = torch.arange(parameter.numel()).view(parameter.shape)
    return numbers.index_select(axis, which.cpu()).flatten()
