"""Make units anew as latents of an autoencoder: towards samples of the probe that it reconstructs badly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undying.treat.policies.parts import Part
from undying.treat.policies.wiring import Site
from undying.treat.probe import Probe
from undying.treat.resample import Latents, none_to_draw
from undying.units.tensors import tensors_in

_OTHERWISE = "resample by hand with undying.integrations.sae.resample_"


class Resampling:
    """Turns latents of the one site of an autoencoder towards samples.

    Args:
        sites: of the network whose units can be recycled.
        probe: its samples.
        scale: as in :class:`undying.DeadLatents`.

    Raises:
        ValueError: the network is no autoencoder that this can follow.
    """

    def __init__(self, sites: Mapping[str, Site], probe: Probe, scale: float) -> None:
        self._probe, self._scale = probe, scale
        if len(sites) != 1:
            raise ValueError(f"DeadLatents needs one layer of latents, and there are {', '.join(sites)}; {_OTHERWISE}")
        (site,) = sites.values()
        self._encoder, encoder = self._linear(site, [maker.part for maker in site.makers if not maker.is_bias], 0)
        _, decoder = self._linear(site, [reader.part for reader in site.readers], 1)
        bias = next((maker.part.target for maker in site.makers if maker.is_bias), None)
        self._latents = Latents(encoder, 0, decoder, 1, bias)
        self.samples()

    def _linear(self, site: Site, parts: Sequence[Part], axis: int) -> tuple[nn.Linear, Tensor]:
        """The layer whose weight this is, and its weight."""
        weights = [part.target for part in parts]
        linear = [module for module in self._probe.model.modules() if isinstance(module, nn.Linear)]
        owners = [module for module in linear if all(weight is module.weight for weight in weights)]
        if len(weights) != 1 or len(owners) != 1 or parts[0].axis != axis or weights[0].shape[axis] != site.units:
            role = "decoder" if axis else "encoder"
            raise ValueError(
                f"DeadLatents needs an nn.Linear as the {role} of {site.name}, with nothing between the two but the "
                f"activation; {_OTHERWISE}"
            )
        return owners[0], weights[0]

    def samples(self) -> tuple[Tensor, Tensor]:
        """((samples, width): what the encoder is given of the probe; (samples,): squared distance of output to input)."""
        encoded: list[Tensor] = []
        losses: list[Tensor] = []

        def entered(_: nn.Module, args: tuple[Any, ...]) -> None:
            encoded.append(args[0].detach().flatten(0, -2))

        def left(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given = next(iter(tensors_in([args])), None)
            found = [t for t in tensors_in([output]) if given is not None and t.shape == given.shape]
            if given is None or not found:
                raise ValueError(
                    f"DeadLatents compares what {type(self._probe.model).__name__} gives with what it is given, and no output "
                    f"has the shape of its input; {_OTHERWISE}"
                )
            losses.append((found[0] - given).detach().flatten(0, -2).square().sum(1))

        hooks = [self._encoder.register_forward_pre_hook(entered), self._probe.model.register_forward_hook(left)]
        try:
            self._probe.check()
        finally:
            for hook in hooks:
                hook.remove()
        if not losses or not encoded:
            raise ValueError(
                f"DeadLatents compares what {type(self._probe.model).__name__} gives with what it is given, and method= calls "
                f"something else; {_OTHERWISE}"
            )
        inputs, loss = torch.cat(encoded), torch.cat(losses)
        if len(inputs) != len(loss):
            raise ValueError(
                f"the encoder is given {len(inputs)} samples where the network is given {len(loss)}; {_OTHERWISE}"
            )
        return inputs, loss

    def turn(self, units: Tensor, optimizers: Sequence[torch.optim.Optimizer], generator: torch.Generator) -> str:
        """Turn these latents. Returns why it could not, where it could not; nothing was changed then."""
        inputs, losses = self.samples()
        if reason := none_to_draw(inputs, losses):
            return f"of the probe, {reason}"
        dead = torch.zeros(self._latents.encoder.shape[0], dtype=torch.bool, device=units.device)
        dead[units] = True
        self._latents.turn(units, dead, inputs, losses, optimizers, self._scale, generator)
        return ""
