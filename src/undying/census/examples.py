"""Which samples fire a unit most and least."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from undying._base.equal import Equal
from undying.census.batches import batches_of, unpacked
from undying.census.fingerprint import Fingerprint
from undying.census.rows import Rows
from undying.census.samples import samples_in
from undying.census.site import plain, read_column
from undying.units.layout import Layout

_MASK = 2**64 - 1


@dataclass(frozen=True, eq=False)
class SiteExamples(Equal):
    """Of each unit of one site, in order: the sample that fires it most (least) first, of equal ones the earlier first.

    A sample's peak is the largest pre-activation of the unit at any position of it. One whose peak is NaN is left out.
    """

    most: Tensor
    """Numbers of samples, from 0 in the order of the data, as int64 of shape (units, examples). -1 where there are no more."""
    most_peak: Tensor
    """Their peaks, as float64 of the same shape. NaN where there are no more."""
    least: Tensor
    """Those with the smallest peaks."""
    least_peak: Tensor
    """Their peaks."""


@dataclass(frozen=True)
class Examples(Mapping[str, SiteExamples]):
    """What ``census(..., examples=9)`` keeps: a mapping from the names of sites."""

    number: int
    """How many are kept at each end."""
    samples: int
    """How many the data had."""
    order: str | None
    """Fingerprint of the data in their order, to which the numbers refer; None where the data have none."""
    sites: dict[str, SiteExamples]
    left_out: dict[str, str]
    """Sites of which none are kept, with the reason."""

    def __getitem__(self, name: str) -> SiteExamples:
        if name in self.left_out:
            raise KeyError(f"site {name!r} has no examples: {self.left_out[name]}")
        if name not in self.sites:
            raise KeyError(f"no site {name!r}; sites with examples: {', '.join(self.sites)}")
        return self.sites[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def joined(self, other: Examples, sums: tuple[str | None, str | None]) -> Examples:
        """Of both data sets together; the samples of ``other`` are numbered on.

        Args:
            other: of other data.
            sums: fingerprints of both data in any order.

        Raises:
            ValueError: they keep unlike numbers of examples.
        """
        if self.number != other.number:
            raise ValueError(
                f"censuses add only with the same number of examples, not {self.number} and {other.number}"
            )
        order = None
        if self.order is not None and other.order is not None and sums[1] is not None:
            # A sample at place i weighs 2 i + 1.
            total = int(self.order, 16) + int(other.order, 16) + 2 * self.samples * int(sums[1], 16)
            order = f"{total & _MASK:016x}"
        sites = {
            name: _joined(mine, other.sites[name], self.samples, self.number)
            for name, mine in self.sites.items()
            if name in other.sites
        }
        left_out = other.left_out | self.left_out
        return Examples(self.number, self.samples + other.samples, order, sites, left_out)

    def of(self, names: Collection[str]) -> Examples:
        """Of these sites alone."""
        sites = {name: of for name, of in self.sites.items() if name in names}
        return replace(self, sites=sites, left_out={name: why for name, why in self.left_out.items() if name in names})

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "number": self.number,
            "samples": self.samples,
            "order": self.order,
            "sites": {
                name: {f.name: plain(getattr(of, f.name)) for f in fields(SiteExamples)}
                for name, of in self.sites.items()
            },
            "left_out": self.left_out,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Examples:
        """What ``to_dict`` gave, checked.

        Raises:
            ValueError: it is something else.
        """
        number, samples, order = content["number"], content["samples"], content["order"]
        if type(number) is not int or number < 1 or type(samples) is not int or not isinstance(order, str | None):
            raise ValueError(f"examples of {samples!r:.80} samples, {number!r:.80} each, in order {order!r:.80}")
        sites = {str(name): _read(of, number) for name, of in content["sites"].items()}
        return cls(number, samples, order, sites, {str(name): str(why) for name, why in content["left_out"].items()})


def samples_at(data: Iterable[Any], numbers: Collection[int]) -> tuple[dict[int, Any], str | None]:
    """What a network is given of these samples, and the fingerprint of the data in their order: by it a second reading is
    known to be of the same data as the census.

    Returns:
        of each sample its part of the first tensor or list among the arguments.
    """
    found, fingerprint, before = {}, Fingerprint(), 0
    for batch in batches_of(data):
        fingerprint.add(batch)
        args, kwargs, target = unpacked(batch)
        samples = samples_in(args, kwargs, target) or 0
        given = next(
            (v for v in (*args, *kwargs.values()) if isinstance(v, (Tensor, list)) and len(v) == samples), None
        )
        if given is not None:
            for number in numbers:
                if before <= number < before + samples:
                    part = given[number - before]
                    found[number] = part.clone() if isinstance(part, Tensor) else part
        before += samples
    return found, fingerprint.read_in_order()


class Keeper:
    """Keeps, while a census counts, the examples of every site on its device.

    Args:
        number: how many at each end.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._samples = self._batch = 0
        self.rows = Rows(0, ())
        self._kept: dict[str, tuple[_Ends, _Ends]] = {}
        self._left_out: dict[str, str] = {}

    def start(self, samples: int | None, given: tuple[Any, ...]) -> None:
        """Begin a batch of so many samples; None where nothing tells."""
        self._samples += self._batch
        self._batch = samples or 0
        self.rows = Rows(self._batch, given)

    def leave_out(self, name: str, reason: str) -> None:
        """Keep none of a site."""
        self._left_out.setdefault(name, reason)
        self._kept.pop(name, None)

    def add(self, name: str, x: Tensor, layout: Layout, mask: Tensor | None, samples: int | None) -> None:
        """Take in one call of a site.

        Args:
            name: of the site.
            x: what reaches it.
            layout: of ``x``.
            mask: that counts for it.
            samples: how many ``x`` is of, by what is seen of the network so far.
        """
        if name in self._left_out:
            return
        if not self._batch:
            self.leave_out(name, "nothing tells how many samples a batch holds")
            return
        if samples != self._batch:
            self.leave_out(name, "a layer shows that the first axis of the batch is not its samples")
            return
        if self._batch == 1:
            x, layout = x[None], layout.stacked(0, 1)
            mask = mask if mask is None or len(mask) == 1 else mask[None]
        elif (axis := self.rows.axis(x)) is None or any(step for _, step in layout.axes[axis]):
            self.leave_out(name, f"the samples cannot be followed to its input {tuple(x.shape)}")
            return
        elif axis:
            order = [axis, *(d for d in range(x.dim()) if d != axis)]
            x, layout = x.permute(order), layout.permuted(order)
        peaks = layout.peaks(x, mask).T
        numbers = torch.arange(self._samples, self._samples + self._batch, device=x.device).expand(peaks.shape)
        most, least = _Ends(-peaks, numbers), _Ends(peaks, numbers)
        if name in self._kept:
            most, least = (kept.and_then(new) for kept, new in zip(self._kept[name], (most, least), strict=True))
        self._kept[name] = most.first(self.number), least.first(self.number)

    def read(self, order: str | None, counted: Collection[str]) -> Examples:
        """What was kept of the sites that count, off the device; ``order``: fingerprint of the data in their order."""
        sites = {
            name: SiteExamples(most.numbers.cpu(), -most.keys.cpu(), least.numbers.cpu(), least.keys.cpu())
            for name, (most, least) in self._kept.items()
        }
        return Examples(self.number, self._samples + self._batch, order, sites, self._left_out).of(counted)


@dataclass(frozen=True)
class _Ends:
    """Samples by unit, (units, samples): those with small keys come first."""

    keys: Tensor
    numbers: Tensor

    def and_then(self, later: _Ends) -> _Ends:
        """These before others, which come later in the data."""
        return _Ends(torch.cat([self.keys, later.keys], 1), torch.cat([self.numbers, later.numbers], 1))

    def first(self, number: int) -> _Ends:
        """The first so many; where there are fewer, NaN and -1 fill up."""
        keys, places = self.keys.sort(dim=1, stable=True)  # NaN last
        keys, numbers = keys[:, :number], self.numbers.gather(1, places[:, :number])
        numbers = torch.where(keys.isnan(), -1, numbers)
        missing = number - keys.shape[1]
        if missing > 0:
            keys = torch.nn.functional.pad(keys, (0, missing), value=torch.nan)
            numbers = torch.nn.functional.pad(numbers, (0, missing), value=-1)
        return _Ends(keys, numbers)


def _joined(one: SiteExamples, other: SiteExamples, before: int, number: int) -> SiteExamples:
    def later(numbers: Tensor) -> Tensor:
        return torch.where(numbers < 0, -1, numbers + before)

    most = _Ends(-one.most_peak, one.most).and_then(_Ends(-other.most_peak, later(other.most))).first(number)
    least = _Ends(one.least_peak, one.least).and_then(_Ends(other.least_peak, later(other.least))).first(number)
    return SiteExamples(most.numbers, -most.keys, least.numbers, least.keys)


def _read(content: Mapping[str, Any], number: int) -> SiteExamples:
    columns = {}
    for f in fields(SiteExamples):
        dtype = torch.float64 if f.name.endswith("peak") else torch.int64
        rows = [read_column(f.name, row, number, dtype) for row in content[f.name]]
        columns[f.name] = torch.stack(rows)
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("examples of unlike numbers of units")
    return SiteExamples(**columns)
