"""How long ago each unit last fired, counted while a network trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from undying.census.record import Record

__all__ = ["Quiet", "SinceFired"]


@dataclass
class Quiet:
    """Of one site; both int64 over units, on the CPU."""

    records: Tensor
    """Records since the unit last fired; 0: it fired in the last one. With ``every=1`` these are steps."""
    samples: Tensor
    """Samples in these, or values of a site of which samples are not known."""


class SinceFired(dict[str, Quiet]):
    """A sink of :func:`undying.watch`: by site, how long ago each unit last fired.

    The definition of the field for dead latents: one is dead that has fired for none of so many samples, or tokens. It counts
    the steps that watch samples; give it ``every=1`` to count all of them. A few numbers a unit are kept, whatever the length.

    >>> import torch, undying
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> _ = torch.nn.init.constant_(net[0].bias[:3].data, -100.0)
    >>> optimizer, since = torch.optim.SGD(net.parameters(), 0.01), undying.SinceFired()
    >>> with undying.watch(net, optimizer, every=1, sinks=since):
    ...     for _ in range(5):
    ...         net(torch.rand(10, 4)).sum().backward()
    ...         optimizer.step()
    >>> since["1"].samples[:3].tolist(), since.dead(50)["1"][:3].tolist()
    ([50, 50, 50], [True, True, True])
    """

    def write(self, record: Record) -> None:
        for site in record.census.sites:
            fired = site.fired > 0
            before = self.get(site.name)
            if before is None or len(before.records) != site.units:
                zeros = torch.zeros(site.units, dtype=torch.int64)
                before = Quiet(zeros, zeros)
            seen = site.values if site.samples is None else site.samples
            self[site.name] = Quiet(
                torch.where(fired, 0, before.records + 1), torch.where(fired, 0, before.samples + seen)
            )

    def close(self) -> None:
        pass

    def dead(self, samples: int) -> dict[str, Tensor]:
        """By site, which units fired for none of the last ``samples`` samples: a bool mask each, as
        :func:`undying.recycle_` takes them in ``units``."""
        return {name: quiet.samples >= samples for name, quiet in self.items()}
