"""A sparse autoencoder, and the arms that it is trained with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying.lab.recipe import one_of
from undying.lab.treatments import Treatment, build_treatment

TOPK = "topk"
EXTRAS = ("resample", "ghost", "auxk", "raw")
"""What may follow a plus sign: something done about dead latents, or ``raw`` for inputs that keep their mean."""


@dataclass(frozen=True)
class Arm:
    """What an arm of sparse autoencoders is."""

    treatment: Treatment
    """Of the latents' activation; ReLU with TopK."""
    topk: bool
    extra: str
    """One of ``EXTRAS``, or empty."""

    @classmethod
    def of(cls, spec: str) -> Arm:
        """``ACTIVATION[+EXTRA]``, where the activation may be ``topk``.

        Raises:
            UndyingError: there is no such arm.

        >>> Arm.of("topk+auxk").extra
        'auxk'
        """
        head, _, extra = spec.partition("+")
        if extra:
            one_of("what follows the plus sign", extra, EXTRAS)
        topk = head == TOPK
        if extra == "auxk" and not topk:
            raise UndyingError(f"{spec!r}: auxk goes with topk and with nothing else")
        if extra == "resample" and topk:
            raise UndyingError(
                f"{spec!r}: resample goes with an activation, whose units a Recycler finds, and not with topk"
            )
        treatment = build_treatment("relu" if topk else head)
        treatment.check()
        return cls(treatment, topk, extra)


class TopK(nn.Module):
    """Keeps the ``keep`` largest pre-activations of a sample, where they are above 0 (Gao et al. 2024, arXiv:2406.04093)."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        top = torch.topk(x, self.keep, dim=-1, sorted=False)
        return torch.zeros_like(x).scatter(-1, top.indices, torch.relu(top.values))


class SparseAutoencoder(nn.Module):
    """``width -> latents -> width``. Encoder rows are drawn as torch's layer draws them, and decoder columns with length 1.

    Args:
        width: numbers of a sample.
        latents: how many.
        act: the latents' activation.
    """

    def __init__(self, width: int, latents: int, act: nn.Module) -> None:
        super().__init__()
        self.encoder, self.act, self.decoder = nn.Linear(width, latents), act, nn.Linear(latents, width)
        with torch.no_grad():
            nn.init.normal_(self.decoder.weight)
            self.normalize()
            self.encoder.bias.zero_()
            self.decoder.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(self.act(self.encoder(x)))
        return reconstruction

    @torch.no_grad()
    def normalize(self) -> None:
        """Decoder columns to length 1, so that a latent cannot be small for the penalty and large for the output."""
        # Thrice as fast on a CPU as torch's norm along the first axis.
        self.decoder.weight.div_(self.decoder.weight.square().sum(0).sqrt().clamp_min(1e-8))
