"""What a census found: sites, units and the evidence; tables, JSON, sums and differences."""

from __future__ import annotations

import functools
import html
import itertools
import json
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from undying._base import text
from undying._base.equal import Equal
from undying._base.extras import need
from undying._base.files import write_named
from undying.census.examples import Examples
from undying.census.inputs import InputStatistics
from undying.census.site import Site, cell, labelled, numbers, plain, read_column, read_site, together
from undying.census.views import frame_of_sites, plot_sites, worst_of
from undying.units.sites import name_axis
from undying.units.unseen import Unrecognised


@dataclass(frozen=True)
class Census(Mapping[str, Site]):
    """The sites of a network in call order, with what was counted; a mapping from their names to them."""

    sites: list[Site]
    tau: float
    """Dormancy threshold."""
    loss: str | None
    """Name of the loss whose gradient decided ``dead``; None without ``gradients=True``."""
    probe: str | None
    """Fingerprint of the data: the same for the same samples in any order and batching. None for data that hold objects
    whose content is not known, and for the batches of a training step, which are not fingerprinted."""
    ambiguous: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Sites that were not counted, since nothing decides which axis holds their units, with the shape of their input;
    ``census(..., axes={name: axis})`` counts them."""
    unrecognised: dict[str, Unrecognised] = field(default_factory=dict)
    """Places that act as an activation, or may, and were not counted: ``x.clamp(min=0)``, scripted parts, an activation that
    is not registered. Shares are of the counted units alone."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Sites that were not counted, with the reason: the user skips them, they are on ranks of a sort or
    topk, or the number of units changes between calls."""
    inputs: dict[str, InputStatistics] = field(default_factory=dict)
    """What the layers read that read the network's input, by their names; its ``gamma`` tells how many units are dead from
    the start. A layer is left out where what it reads is not followed."""
    weights: str | None = field(default=None, compare=False)
    """Fingerprint of the network's parameters and buffers, of their bits, shapes and types. None where they cannot be read,
    as on another rank, in a training step, and in a file that does not say."""
    examples: Examples | None = field(default=None, compare=False)
    """Which samples fire each unit most and least; None without ``census(..., examples=9)``."""

    def __getitem__(self, name: str) -> Site:
        for site in self.sites:
            if site.name == name:
                return site
        if name in self.ambiguous:
            raise KeyError(f"site {name!r} was not counted: {_ask_axis(name, self.ambiguous[name])}")
        if name in self.unrecognised:
            raise KeyError(f"{name!r} was not counted, as it is not recognised: {self.unrecognised[name]}")
        if name in self.left_out:
            raise KeyError(f"site {name!r} was not counted: {self.left_out[name]}")
        raise KeyError(f"no site {name!r}; sites: {', '.join(site.name for site in self.sites)}")

    def __iter__(self) -> Iterator[str]:
        return (site.name for site in self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def units(self) -> int:
        """Units over all sites."""
        return sum(site.units for site in self.sites)

    @property
    def silent_fraction(self) -> float | None:
        """Share of silent units, over the sites of which silent is said; None without any."""
        return _share([(site.silent, site.units) for site in self.sites if site.silent is not None])

    @property
    def saturated_fraction(self) -> float | None:
        """Share of saturated units, over the sites of which saturated is said; None without any."""
        return _share([(site.saturated, site.units) for site in self.sites if site.saturated is not None])

    @property
    def dead_fraction(self) -> float | None:
        """Share of all units that are dead; None where any site's is unknown."""
        return _share([(site.dead, site.units) for site in self.sites])

    @property
    def dormant_fraction(self) -> float | None:
        """Share of all units that are dormant; None without any site."""
        return _share([(site.dormant, site.units) for site in self.sites])

    @property
    def sparsity(self) -> float | None:
        """Share of post-activations that are exactly 0, over all values at all sites; None without any."""
        values = sum(site.units * site.values for site in self.sites)
        return sum(float(site.zero.sum()) * site.values for site in self.sites) / values if values else None

    def __add__(self, other: Census) -> Census:
        """The census of both data sets together, for instance of two ranks' shares; counts add.

        Raises:
            ValueError: the censuses are of different sites, thresholds, losses or numbers of examples.
        """
        left_out = self.left_out | other.left_out
        ours, theirs = ([site for site in census.sites if site.name not in left_out] for census in (self, other))
        settings = [(census.tau, census.loss) for census in (self, other)]
        if settings[0] != settings[1] or not ours or _layout(ours) != _layout(theirs):
            raise ValueError("censuses add only with the same sites, tau and loss")
        for a, b in zip(ours, theirs, strict=True):
            if not is_same_site(a, b):
                raise ValueError(f"site {a.name!r} is behind layer {a.layer} in one census and {b.layer} in the other")
        probes = (self.probe, other.probe)
        probe = None if None in probes else f"{sum(int(p or '', 16) for p in probes) % 2**64:016x}"
        sites = [together(a, b, self.tau) for a, b in zip(ours, theirs, strict=True)]
        ambiguous, unrecognised = self.ambiguous | other.ambiguous, self.unrecognised | other.unrecognised
        inputs = {
            layer: mine + other.inputs[layer]
            for layer, mine in self.inputs.items()
            if layer in other.inputs and len(mine.mean) == len(other.inputs[layer].mean)
        }
        weights = self.weights if self.weights == other.weights else None
        examples = None
        if self.examples is not None and other.examples is not None:
            examples = self.examples.joined(other.examples, probes).of([site.name for site in sites])
        elif self.examples is not other.examples:
            raise ValueError("censuses add only with the same number of examples, and one of the two has none")
        return Census(sites, self.tau, self.loss, probe, ambiguous, unrecognised, left_out, inputs, weights, examples)

    def all_reduce(self, group: torch.distributed.ProcessGroup | None = None) -> Census:
        """The census of all ranks' shares of the data together, the same on every rank; call it on every rank. Sites with
        another number of units on another rank are left out.

        Args:
            group: process group of ``torch.distributed``; default: the world.
        """
        shares: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(shares, self.to_dict(), group=group)
        return functools.reduce(operator.add, _even([Census.from_dict(share) for share in shares]))

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row a site; :meth:`Site.to_pandas` has a row a unit."""
        return frame_of_sites(self.sites)

    def plot(self, ax: Any = None) -> Any:
        """Draw the shares of silent and dead units by site, with matplotlib, into ``ax`` or a new figure. Of more than 50 sites
        those with most dead, then silent units. Returns the axes."""
        return plot_sites(self.sites, ax)

    def table(self) -> str:
        """A line a site, behind the layer that makes its units; ``-`` is what is not said of an activation. A layer within
        the same module as the site is named from its dot on: ``.conv1 -> layer1.0.relu``."""
        return "\n".join([text.table(self._cells(self.sites, labelled(self.sites)), left=2), *self.notes])

    @property
    def notes(self) -> list[str]:
        """What stands below the table: all sites together, the inputs of first layers, what was not counted, and what is not
        finite."""
        lines = [self._total()] if len(self.sites) > 1 else []
        lines += [
            f"layer {layer} reads the input: gamma {each.gamma:.3g} (|mean| / std)"
            for layer, each in self.inputs.items()
        ]
        lines += [f"{name}: not counted, {_ask_axis(name, shape)}" for name, shape in self.ambiguous.items()]
        lines += [f"{name}: not recognised, so not counted: {place}" for name, place in self.unrecognised.items()]
        lines += [f"{name}: left out, {reason}" for name, reason in self.left_out.items()]
        if self.examples is not None:
            lines += [f"{name}: no examples, {reason}" for name, reason in self.examples.left_out.items()]
        lines += [
            f"{site.name}: {int(site.nonfinite.sum())} pre-activations are infinite or NaN, in "
            f"{int((site.nonfinite > 0).sum())} units"
            for site in self.sites
            if site.nonfinite.any()
        ]
        return lines

    def _total(self) -> str:
        shares = {"silent": self.silent_fraction, "dead": self.dead_fraction, "dormant": self.dormant_fraction}
        said = (f"{100 * share:.1f} % {state}" for state, share in shares.items() if share is not None)
        return f"all {len(self.sites)} sites: {self.units} units, {', '.join(said)}"

    def _cells(self, sites: Sequence[Site], labels: list[str]) -> list[tuple[str, ...]]:
        """Of these sites, with ``labels``, a head and one a site, as the first column."""
        states = ["silent", "dead", "dormant"]
        states += ["saturated"] if any(site.saturated is not None for site in self.sites) else []
        states += ["unused"] if any(site.unused is not None and site.unused.any() for site in self.sites) else []
        rows = [
            (
                label,
                site.kind,
                str(site.units),
                "-" if site.samples is None else str(site.samples),
                *(cell(site, state) for state in states),
                f"{float(site.firing_rate.mean()):.3f}",
            )
            for label, site in zip(labels[1:], sites, strict=True)
        ]
        return [(labels[0], "kind", "units", "N", *states, "firing"), *rows]

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        shown = worst_of(self.sites)
        return "\n".join([text.table(self._cells(shown, labelled(shown)), left=2), *self._few_notes(shown)])

    def _repr_html_(self) -> str:
        shown = worst_of(self.sites)
        table = text.html_table(self._cells(shown, ["site", *(site.label for site in shown)]))
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in self._few_notes(shown))

    def _few_notes(self, shown: Sequence[Site]) -> list[str]:
        """What stands below a table of these sites where nobody asked for everything."""
        notes = self.notes
        said = notes[:_NOTES] + ([f"... and {len(notes) - _NOTES} notes more"] if len(notes) > _NOTES else [])
        if len(shown) < len(self.sites):
            said.insert(
                0, f"the worst {len(shown)} of {len(self.sites)} sites; print() and to_pandas() have all of them"
            )
        return said

    def since(self, earlier: Census, *, other_probe: bool = False) -> dict[str, Changes]:
        """Units that died (fire no more) and revived (fire again) since ``earlier``, by site name.

        Args:
            earlier: a census of the same network.
            other_probe: compare although the data differ, so that a change may be the data's.

        Raises:
            ValueError: the data differ, or the sites do. Sites that either census left out are not compared, and calls
                that ``convert_`` has replaced are the sites that they were.
        """
        if (self.probe is None or self.probe != earlier.probe) and not other_probe:
            what = (
                "the later census's data were not fingerprinted, so they may be others"
                if self.probe is None
                else f"the censuses saw different data (probe {self.probe}, earlier {earlier.probe})"
            )
            raise ValueError(f"{what}; count on the same tensors, or pass other_probe=True and read changes with care")
        return {
            now.name: Changes(
                died=now.silent & ~then.silent, revived=then.silent & ~now.silent, still=then.silent & now.silent
            )
            for now, then in self.paired(earlier)
            if now.silent is not None and then.silent is not None
        }

    def paired(self, earlier: Census) -> list[tuple[Site, Site]]:
        """Each site with what it was in ``earlier``; those that either left out are not there.

        Raises:
            ValueError: the sites differ.
        """
        uncounted = {*self.left_out, *self.ambiguous, *earlier.left_out, *earlier.ambiguous}
        ours, theirs = ([site for site in census.sites if site.name not in uncounted] for census in (self, earlier))
        renamed = {site.name for site in ours} ^ {site.name for site in theirs}
        if len(ours) != len(theirs) or not all(_is_same(*pair, renamed) for pair in zip(ours, theirs, strict=True)):
            raise ValueError(f"the censuses have different sites: {_shown(ours)} and earlier {_shown(theirs)}")
        return list(zip(ours, theirs, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; NaN and infinities are the strings ``nan``, ``inf`` and ``-inf``."""
        return {
            "format": _FORMAT,
            "tau": self.tau,
            "loss": self.loss,
            "probe": self.probe,
            "weights": self.weights,
            "ambiguous": {name: list(shape) for name, shape in self.ambiguous.items()},
            "unrecognised": {name: asdict(place) for name, place in self.unrecognised.items()},
            "left_out": self.left_out,
            "inputs": {
                layer: {"values": each.values, "mean": plain(each.mean), "variance": plain(each.variance)}
                for layer, each in self.inputs.items()
            },
            "sites": [{f.name: plain(getattr(site, f.name)) for f in fields(Site)} for site in self.sites],
            "examples": None if self.examples is None else self.examples.to_dict(),
        }

    def to_json(self) -> str:
        """``to_dict`` as text, as ``save`` writes it."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Census:
        """The census that ``to_dict`` gave.

        Raises:
            ValueError: a newer version made it, or it is no census.
        """
        try:
            version = content.get("format")
            if not isinstance(version, int) or version > _FORMAT:
                raise ValueError(
                    f"this census has format {version}, and this undying reads up to {_FORMAT}; upgrade undying"
                )
            sites = [read_site(site, version) for site in content["sites"]]
            ambiguous = {name: tuple(shape) for name, shape in content.get("ambiguous", {}).items()}
            unrecognised = {name: Unrecognised(**place) for name, place in content.get("unrecognised", {}).items()}
            left_out = {str(name): str(reason) for name, reason in content.get("left_out", {}).items()}
            inputs = {str(layer): _input(each) for layer, each in content.get("inputs", {}).items()}
            tau, loss, probe = float(content["tau"]), content["loss"], content["probe"]
            weights = content.get("weights")
            if not isinstance(weights, str | None):
                raise TypeError(f"weights {weights!r:.80}")
            kept = content.get("examples")
            examples = None if kept is None else Examples.from_dict(kept)
            return cls(sites, tau, loss, probe, ambiguous, unrecognised, left_out, inputs, weights, examples)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"this does not hold a census: {error!r}") from None

    def save_html(self, path: str | Path, *, model: str = "the network", beside: Census | None = None) -> None:
        """Write the page that ``undying census --html`` writes: every site as a strip of its units, the worst first in a table
        that sorts. One file that asks for nothing else, written beside and renamed. Needs ``undying[lab]``.

        Examples of what fires a unit are drawn by the command, which has the data; here they are left out.

        Args:
            path: the file.
            model: name of the network, in the title.
            beside: a census of the same network, such as an earlier one: which units died and revived since.

        Raises:
            ValueError: ``beside`` has other sites, or is of other data.
            UndyingError: the extra is not installed.
            OSError: the file cannot be written.

        >>> import tempfile, torch, undying
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> counted = undying.census(net, torch.randn(64, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     counted.save_html(f"{folder}/census.html", model="my network")
        ...     "Which units of my network fire?" in Path(f"{folder}/census.html").read_text()
        True
        """
        # By its name, as it is a part of an extra: nothing of the census needs what draws.
        page = need("undying.report.census", "lab", "save_html").page_of
        write_named(Path(path), page(self, model, beside))

    def save(self, path: str | Path) -> None:
        """Write JSON, beside and renamed, so that ``path`` holds the old census or the new one."""
        write_named(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Census:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is no census, is damaged, or was written by a newer version.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not hold a census: {error!r}") from None
        try:
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True, eq=False)
class Changes(Equal):
    """Units of one site in two censuses: bool tensors over units."""

    died: Tensor
    """Fired in the earlier census, silent in the later."""
    revived: Tensor
    """Silent in the earlier, fired in the later."""
    still: Tensor
    """Silent in both. If the earlier is of the network as initialised: silent from the start."""

    def __repr__(self) -> str:
        said = {"died": self.died, "revived": self.revived, "still silent": self.still}
        return "; ".join(
            f"{int(units.sum())} {what}" + (f": {numbers(units)}" if units.any() else "")
            for what, units in said.items()
        )


#: Most notes that are shown where nobody asked for everything.
_NOTES = 20
#: 1 had neither ends, unused units nor ambiguous sites; until 3 the values were called samples, and nothing was left out or
#: unrecognised. What a file does not say is None.
_FORMAT = 3


def _layout(sites: Sequence[Site]) -> list[tuple[str, str, int]]:
    return [(site.name, site.kind, site.units) for site in sites]


def _shown(sites: Sequence[Site]) -> list[tuple[str, int]]:
    return [(site.name, site.units) for site in sites]


def is_same_site(now: Site, then: Site) -> bool:
    """Whether two sites of one name have the same units, as far as is known."""
    return now.units == then.units and len({now.layer, then.layer} - {None}) < 2


def _is_same(now: Site, then: Site, renamed: Collection[str]) -> bool:
    """Whether two sites, at the same place in the order of calls, are one; its name may be another after ``convert_``."""
    if now.units != then.units or now.name == then.name:
        return is_same_site(now, then)
    owners = [site.name.rpartition(".")[0] for site in (now, then)]
    layers = {site.layer for site in (now, then) if site.layer is not None}
    return {now.name, then.name} <= set(renamed) and owners[0] == owners[1] and len(layers) < 2


def _even(shares: Sequence[Census]) -> list[Census]:
    """Without the sites whose number of units is not the same in all."""
    units: dict[str, set[int]] = {}
    for name, site in itertools.chain.from_iterable(share.items() for share in shares):
        units.setdefault(name, set()).add(site.units)
    uneven = {
        name: f"its input had {' and '.join(map(str, sorted(seen)))} units on different ranks"
        for name, seen in units.items()
        if len(seen) > 1
    }
    layers: dict[str, set[str]] = {}
    for name, site in itertools.chain.from_iterable(share.items() for share in shares):
        layers.setdefault(name, set()).update([site.layer] if site.layer else [])
    uneven |= {
        name: f"it is behind layers {' and '.join(sorted(seen))} on different ranks"
        for name, seen in layers.items()
        if len(seen) > 1
    }
    return [replace(share, left_out=share.left_out | uneven) for share in shares]


def _share(counted: list[tuple[Tensor | None, int]]) -> float | None:
    states = [state for state, _ in counted if state is not None]
    if not counted or len(states) < len(counted):
        return None
    return sum(int(state.sum()) for state in states) / sum(units for _, units in counted)


def _ask_axis(name: str, shape: tuple[int, ...]) -> str:
    return f"nothing decides which axis of its {shape} input holds the units; {name_axis(name, shape)}"


def _input(content: Mapping[str, Any]) -> InputStatistics:
    """What ``to_dict`` gave for the input of a layer, checked."""
    values, mean, variance = content["values"], content["mean"], content["variance"]
    if type(values) is not int or values < 1 or not isinstance(mean, list):
        raise ValueError(f"an input of {values!r} values with mean {mean!r:.80}")
    return InputStatistics(values, read_column("mean", mean, len(mean), torch.float64), float(variance))
