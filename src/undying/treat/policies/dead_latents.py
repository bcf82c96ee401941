"""Dead latents of a sparse autoencoder: resample those that have not fired for so many samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undying.treat.policies.policy import Chosen, Look, Policy, State, whole


@dataclass(frozen=True)
class DeadLatents(Policy):
    """Each time ``window`` more samples were seen, resample the latents that fired for none of them.

    Bricken et al. 2023, "Towards Monosemanticity", appendix on neuron resampling
    (https://transformer-circuits.pub/2023/monosemantic-features): a dead latent gets the direction of a sample that is
    reconstructed badly, as :func:`undying.integrations.sae.resample_` does it, and not what the layer draws. The samples are those of
    the Recycler's ``probe``, of which there should be thousands; its loss is the squared distance of what the network gives to
    what it is given. Outputs change.

    Args:
        window: samples, or tokens, in which a living latent fires. The source looks every 25,000 steps at the 12,500 before; here the
            windows follow each other without a gap, so that a latent that falls silent is resampled after ``window`` to twice as many.
        scale: norm of a new encoder row beside the mean norm of the living ones; the source's.

    Raises:
        ValueError: ``window`` is no whole number of at least 1, or ``scale`` not above 0.

    >>> import torch, undying
    >>> class Autoencoder(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.encoder, self.act, self.decoder = torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
    ...     def forward(self, x):
    ...         return self.decoder(self.act(self.encoder(x)))
    >>> sae, x = Autoencoder(), torch.randn(200, 4)
    >>> _ = torch.nn.init.constant_(sae.encoder.bias[:3].data, -100.0)
    >>> optimizer = torch.optim.Adam(sae.parameters())
    >>> with undying.Recycler(sae, optimizer, undying.DeadLatents(window=200), probe=x) as recycler:
    ...     for batch in x.split(50):
    ...         optimizer.zero_grad()
    ...         (sae(batch) - batch).square().mean().backward()
    ...         optimizer.step()
    ...         recycler.step()
    >>> recycler.recycled >= 3, bool((sae.encoder(x) > 0).any(0)[:3].all())
    (True, True)
    """

    window: int
    scale: float = 0.2

    measures: ClassVar[frozenset[str]] = frozenset({"fired"})

    def __post_init__(self) -> None:
        whole("window", self.window)
        if isinstance(self.scale, bool) or not (0 < self.scale < math.inf):
            raise ValueError(f"scale must be above 0, such as 0.2, not {self.scale!r}")

    def begin(self, able: Tensor) -> State:
        return {"fired": torch.zeros(len(able), dtype=torch.bool, device=able.device), "seen": 0}

    def choose(self, look: Look) -> Chosen | None:
        state = look.state
        assert look.seen.fired is not None
        state["fired"] |= look.seen.fired
        state["seen"] += look.seen.values
        if state["seen"] < self.window:
            return None
        dead = look.able & ~state["fired"]
        state["fired"].zero_()
        state["seen"] = 0
        return Chosen(dead.nonzero().flatten())
