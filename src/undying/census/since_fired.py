"""How long ago each unit last fired, counted while a network trains."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.equal import Equal
from undying.census.record import Record
from undying.census.site import Site

__all__ = ["Quiet", "SinceFired"]


@dataclass(eq=False)
class Quiet(Equal):
    """Of one site; each int64 over units, on the CPU."""

    records: Tensor
    """Records since the unit last fired; 0: it fired in the last one. With ``every=1`` these are steps."""
    samples: Tensor
    """Samples that the network was given in these, whether or not they reached the site: those of an expert that is chosen no
    more grow too. Where samples are not known, values."""
    positions: Tensor
    """Positions of these that reached the site: tokens of sequences, pixels of maps."""


class SinceFired(dict[str, Quiet]):
    """A sink of :func:`undying.watch`: by site, how long ago each unit last fired.

    The definition of the field for dead latents: one is dead that has fired for none of so many samples. It counts
    the steps that watch samples; give it ``every=1`` to count all of them. A few numbers a unit are kept, whatever the length.
    A step is one unit of time: a unit that fires anywhere in it fired 0 samples ago. A NaN is no silence. A site that was never
    called is not there, and one that watch leaves out is dropped.

    One network has one of these: a watch of another raises ValueError.

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

    def __init__(self) -> None:
        super().__init__()
        self._network: weakref.ref[nn.Module] | None = None
        self._records = self._samples = 0
        """In all."""

    def follow(self, model: nn.Module) -> None:
        """Say which network the records are of.

        Raises:
            ValueError: those before were of another.
        """
        before = self._network and self._network()
        if before is not None and before is not model:
            raise ValueError(
                f"this SinceFired counts another {type(before).__name__}, whose sites may have the same names; give each network "
                "one of its own"
            )
        self._network = weakref.ref(model)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_network": None}  # a copy may go on with a copy of the network

    def write(self, record: Record) -> None:
        sites = {site.name: site for site in record.census.sites}
        given = max([record.samples or 0, *map(_samples, sites.values())])
        for name in record.left_out.keys() & self.keys():
            del self[name]
        for name, site in sites.items():
            if name not in self or len(self[name].records) != site.units:
                past = self._records, self._samples, 0  # it was not called in any of these
                self[name] = Quiet(*(torch.full((site.units,), many, dtype=torch.int64) for many in past))
        for name, before in self.items():
            here = sites.get(name)
            fired = torch.tensor(False) if here is None else here.fired > 0 if here.silent is None else ~here.silent
            self[name] = Quiet(
                torch.where(fired, 0, before.records + 1),
                torch.where(fired, 0, before.samples + given),
                torch.where(fired, 0, before.positions + (0 if here is None else here.values)),
            )
        self._records, self._samples = self._records + 1, self._samples + given

    def close(self) -> None:
        pass

    def dead(self, samples: int | None = None, *, positions: int | None = None) -> dict[str, Tensor]:
        """By site, which units fired for none of the last ``samples`` samples or, with ``positions=``, tokens or pixels: a
        bool mask each, as :func:`undying.recycle_` takes them in ``units``.

        Raises:
            TypeError: neither is given, or both are.
        """
        if samples is not None and positions is None:
            return {name: quiet.samples >= samples for name, quiet in self.items()}
        if positions is not None and samples is None:
            return {name: quiet.positions >= positions for name, quiet in self.items()}
        raise TypeError("dead needs a number of samples, or positions=, and not both")


def _samples(site: Site) -> int:
    return site.values if site.samples is None else site.samples
