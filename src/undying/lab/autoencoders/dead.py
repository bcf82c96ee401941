"""What trainers of sparse autoencoders do about dead latents in the loss: ghost gradients, and the auxiliary loss of TopK."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undying.lab.autoencoders.model import SparseAutoencoder

AUX_WEIGHT = 1 / 32
"""Of the auxiliary loss (Gao et al. 2024, section 2.4)."""


def ghost_loss(sae: SparseAutoencoder, before: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
    """Ghost gradients (Jermyn and Templeton, January 2024, "Ghost grads", transformer-circuits.pub): dead latents, with exp in the
    place of their activation, are to give the residual.

    What they give is scaled to half the residual's length, sample by sample, and the loss to the size of the reconstruction's;
    neither scale has a gradient, nor has the residual.

    Args:
        sae: the autoencoder.
        before: (samples, latents), pre-activations.
        residual: (samples, width), what is not reconstructed.
        dead: int64, numbers of the dead latents; at least one.
    """
    residual = residual.detach()
    error = residual.square().mean()
    # The largest of a sample to 1: the scale below takes any factor out again, and exp cannot overflow.
    some = before[:, dead]
    given = (some - some.detach().amax(1, keepdim=True)).exp() @ sae.decoder.weight[:, dead].T
    scale = residual.norm(dim=1, keepdim=True) / (2 * given.detach().norm(dim=1, keepdim=True) + 1e-6)
    loss = (given * scale - residual).square().mean()
    scaled: Tensor = loss * (error / (loss.detach() + 1e-6))
    return scaled


def auxk_loss(sae: SparseAutoencoder, before: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
    """The auxiliary loss of Gao et al. 2024 (arXiv:2406.04093), section 2.4: the largest dead latents are to give the residual.

    Args:
        sae, before, residual, dead: as in ``ghost_loss``.
    """
    largest = torch.topk(before[:, dead], min(_aux_latents(residual.shape[1]), len(dead)), dim=1, sorted=False)
    kept = torch.zeros_like(before[:, dead]).scatter(1, largest.indices, torch.relu(largest.values))
    given = nn.functional.linear(kept, sae.decoder.weight[:, dead])
    return AUX_WEIGHT * (given - residual.detach()).square().mean()


def _aux_latents(width: int) -> int:
    """A power of two close to half the width; as in the source 512 of 768.

    >>> _aux_latents(768), _aux_latents(384)
    (512, 256)
    """
    return 1 << (width // 2 - 1).bit_length()
