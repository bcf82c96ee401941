"""Sparse autoencoders: dead latents towards what is reconstructed badly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undying.treat.edits import check_held, optimizers_in, reset_state
from undying.treat.recycle import Optimizers

__all__ = ["resample_"]


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
    is that direction at ``scale`` times the mean norm of the living rows; the latent's bias becomes 0. What the optimizer
    remembers of just these weights, and their gradients, become 0. Outputs change: :func:`undying.recycle_` is what keeps them.

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
        ValueError: shapes do not fit; a weight of as many latents as inputs that does not say which axis is which; losses
            that are negative, not finite or all 0; an optimizer that does not hold what would change. Nothing was changed.

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
    rows_at, columns_at = _latent_axis(encoder, latents, "encoder", 0), _latent_axis(decoder, latents, "decoder", 1)
    rows, columns = _parameter(encoder).movedim(rows_at, 0), _parameter(decoder).movedim(columns_at, 0)
    own_bias = encoder.bias if isinstance(encoder, nn.Linear) else bias
    width = rows.shape[1]
    if columns.shape[1] != width or inputs.shape[1:] != (width,) or losses.shape != inputs.shape[:1]:
        raise ValueError(
            f"an encoder of width {width} and a decoder of {columns.shape[1]} need inputs (samples, {width}) and a loss for each, "
            f"not {tuple(inputs.shape)} and {tuple(losses.shape)}"
        )
    if own_bias is not None and own_bias.shape != (latents,):
        raise ValueError(f"bias must have {latents} numbers, not {tuple(own_bias.shape)}")
    chances = losses.detach().double().square()
    if not bool(chances.isfinite().all()) or bool((losses < 0).any()) or not bool(chances.any()):
        raise ValueError("losses must be finite, at least 0 and not all 0")
    changed = [_parameter(encoder), _parameter(decoder), *([] if own_bias is None else [own_bias])]
    optimizers = optimizers_in(optimizer)
    names = {
        id(p): name for p, name in zip(changed, ("encoder.weight", "decoder.weight", "encoder.bias"), strict=False)
    }
    check_held(optimizers, changed, lambda tensor: names[id(tensor)])
    which = dead.nonzero().flatten()
    if not len(which):
        return which.cpu()
    drawn = torch.multinomial(chances, len(which), replacement=True, generator=generator)
    directions = nn.functional.normalize(inputs.detach()[drawn], dim=1).to(rows.device)
    living = rows[~dead.to(rows.device)].norm(dim=1)
    length = scale * (living.mean() if len(living) else 1.0)
    rows[which.to(rows.device)] = (directions * length).to(rows.dtype)
    columns[which.to(columns.device)] = directions.to(columns.device, columns.dtype)
    if own_bias is not None:
        own_bias[which.to(own_bias.device)] = 0
    torch.clear_autocast_cache()
    at = zip(changed, (rows_at, columns_at, 0), strict=False)
    reset_state(optimizers, [(parameter, _numbers(parameter, axis, which)) for parameter, axis in at])
    return which.cpu()


def _parameter(layer: nn.Linear | nn.Parameter) -> nn.Parameter:
    weight: nn.Parameter = layer.weight if isinstance(layer, nn.Linear) else layer  # type: ignore[assignment]
    return weight


def _latent_axis(layer: nn.Linear | nn.Parameter, latents: int, name: str, axis: int) -> int:
    """Which axis of the weight holds the latents; ``axis`` where it is a layer's."""
    weight = _parameter(layer)
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
