"""``undying census``: which units of a network fire, as a table, a file, a page, a gate."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import nn

from undying._base.errors import UndyingError
from undying._base.files import write_or_say
from undying._base.imports import find
from undying.activations.known import is_activation
from undying.census.batches import batches_of
from undying.census.census import census
from undying.census.examples import samples_at
from undying.census.gate import BASELINE, TOTAL, Check, Limits, Verdict, judge
from undying.census.outputs import OutputsError, itself
from undying.census.results import Census
from undying.cli.bar import bar, followed
from undying.cli.network import Data, NetworkOptions, axes_of
from undying.probe.data import Probe, ProbeOptions, probe

if TYPE_CHECKING:
    from undying.report.beside import Beside

_SHARES = tyro.conf.arg(metavar="SHARE|SITES=SHARE ...")
_SHOWN = 10
"""Unreadable files that are listed in the terminal; --json has all."""


@dataclass(frozen=True)
class CensusCommand:
    """Count which units of a network fire, and which are silent, dead or dormant.

    With --max-dead, --max-silent or --baseline a gate: exit status 0 within the limits, 1 beyond them, 2 where that
    cannot be judged.
    """

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    options: Annotated[ProbeOptions, tyro.conf.arg(name="")] = field(default_factory=ProbeOptions)
    method: str = ""
    """Method of the network to call in place of the network itself, such as encode."""
    outputs: tuple[str, ...] = ()
    """Submodules and methods whose output is counted as units too, such as encode. Where one returns something else than a tensor,
    encode=package.module:function names what takes the units out, a tensor or an undying.Indexed."""
    gradients: bool = False
    """Also run the backward pass of the loss on the labels, which tells dead units from silent ones."""
    tau: float = 0.025
    """Dormancy threshold."""
    axes: tuple[str, ...] = ()
    """Axis of the units, for sites where it cannot be told, such as site=1."""
    skip: tuple[str, ...] = ()
    """Patterns of sites to leave out, such as 'head.*'."""
    examples: int = 0
    """Also find so many samples that fire each unit most, and as many that fire it least; --html shows those of the worst
    units, --json has all."""
    examples_of: tuple[str, ...] = ()
    """Units whose examples --html shows in place of the worst, such as features.0=3,17."""
    max_dead: Annotated[tuple[str, ...] | None, _SHARES] = None
    """Largest share of dead units that passes: of all units, such as 0.05, or of each site that a pattern matches, such as
    'features.*=0.2', or both. Of several patterns the last that matches a site counts."""
    max_silent: Annotated[tuple[str, ...] | None, _SHARES] = None
    """The same of silent units."""
    baseline: Path | None = None
    """A census of the same network on the same data, which --json wrote: units that are newly dead or silent fail."""
    beside: Path | None = None
    """A census of the same network, which --json wrote: --html shows what changed since. It judges nothing."""
    other_data: bool = False
    """Hold against a --baseline, or show beside a census, that saw other data."""
    allow_unrecognised: bool = False
    """Judge by the counted units where some places that act as an activation are not recognised."""
    allow_uncalled: bool = False
    """Judge by the counted units where activations that the network holds are never called on the data, such as those of an
    auxiliary head; experts that a router never chooses are dead."""
    certify: Path | None = None
    """Also prove which units fire for no image that the preprocessing can give, and write the certificate to this file.
    undying.Certificate.load reads it."""
    json: Path | None = None
    """Also write the census, and what was judged, to this file, for undying.Census.load."""
    html: Path | None = None
    """Also write a page that shows every unit to this file."""
    junit: Path | None = None
    """Also write the verdict to this file as JUnit's XML, with a test case for each site."""
    github: bool = False
    """Also print the verdict as annotations of GitHub Actions, which is done by itself where GITHUB_ACTIONS is true."""

    def __call__(self, console: Console) -> int:
        self._check_files()  # first, as even a mistake is written to one of them
        with self._telling():
            self._check()
            limits = self._limits()
            baseline = None if self.baseline is None else _read("--baseline", self.baseline)
            other = None if self.beside is None else _read("--beside", self.beside)
            torch.manual_seed(self.network.seed)
            found = probe(self.options, self.network.model)
            if self.gradients and not found.labelled:
                raise UndyingError(
                    f"--gradients needs labels, which {self.options.data} has not; give data with classes"
                )
            model, weights = self.network.build(found)
            counted = self._counted(model, found)
            facts = _facts(model, counted, found, weights)
            changes = None if other is None else self._changes(counted, other)
            units = self._units(counted) if self.html is not None and self.examples else []
            _show(console, counted, facts)
            if self.certify is not None:
                self._certify(model, found, self.certify, console)
        gated = bool(limits) or baseline is not None
        verdict = Verdict([])
        if gated:
            uncalled = [] if self.allow_uncalled else _never_called(model, counted)
            settings = {"other_data": self.other_data, "allow_unrecognised": self.allow_unrecognised}
            verdict = judge(counted, limits, baseline, **settings, uncalled=uncalled)
        self._write(counted, found, facts, verdict)
        if self.html is not None:
            self._write_page(counted, facts, verdict, changes, units)
        return self._end(verdict, found, console) if gated else 0

    def _check(self) -> None:
        self.network.check()
        if not self.tau >= 0:
            raise UndyingError(f"--tau must be at least 0, not {self.tau}")
        if self.other_data and self.baseline is None and self.beside is None:
            raise UndyingError("--other-data is about a --baseline or a census --beside; give one")
        if not 0 <= self.examples < 2**31:
            raise UndyingError(f"--examples is a number of samples, at least 0 and below 2**31, not {self.examples}")
        if self.examples and self.html is None and self.json is None:
            raise UndyingError("--examples go into a file; give --html or --json")
        if self.examples_of and not (self.examples and self.html):
            raise UndyingError("--examples-of says which units a page shows; give --examples and --html too")
        if self.beside is not None and self.html is None:
            raise UndyingError("--beside is shown on a page; give --html too")

    def _check_files(self) -> None:
        written, kept = (
            (self.json, self.html, self.junit, self.certify),
            (self.baseline, self.beside, self.network.checkpoint),
        )
        seen: set[Path] = set()
        for path in (*dict.fromkeys(kept), *written):  # a baseline may be shown beside the census too
            if path is None or (path.exists() and not path.is_file()):  # such as /dev/stdout
                continue
            if path.resolve() in seen:
                raise UndyingError(f"{path} is named for two files, of which one would be lost; name another")
            seen.add(path.resolve())
        for path, suffix in ((self.json, ".json"), (self.html, ".html"), (self.junit, ".xml"), (self.certify, ".json")):
            if path is not None and path.is_file() and path.suffix != suffix:
                raise UndyingError(
                    f"{path} is there and is no {suffix} file; name another, so that nothing else is lost"
                )

    def _limits(self) -> list[Limits]:
        limits = []
        for state, words in (("dead", self.max_dead), ("silent", self.max_silent)):
            if words is not None:
                try:
                    limits.append(Limits.read(state, words))  # type: ignore[arg-type]
                except ValueError as error:
                    raise UndyingError(f"--max-{state} {error}") from None
        return limits

    def _counted(self, model: nn.Module, found: Probe) -> Census:
        try:
            with bar("counting") as done:
                return census(
                    model,
                    followed(batches_of(found.batches), found.length, done),
                    method=self.method or None,
                    outputs=_outputs_of(self.outputs),
                    tau=self.tau,
                    gradients=self.gradients,
                    axes=axes_of(self.axes),
                    skip=self.skip,
                    examples=self.examples,
                )
        except UndyingError:
            raise
        except OutputsError as error:
            way_out = "--outputs NAME=package.module:function names such a function"
            raise UndyingError(f"{self.network.model} on {self.options.data}: {error}. {way_out}") from error
        except Exception as error:  # whatever the network or the data raise: 1 would be a finding
            kind = "" if type(error) in (RuntimeError, TypeError, ValueError) else f"{type(error).__name__}: "
            raise UndyingError(f"{self.network.model} on {self.options.data}: {kind}{error}") from error

    def _certify(self, model: nn.Module, found: Probe, path: Path, console: Console) -> None:
        from undying.certify.interpreter import certify

        try:
            settings: dict[str, Any] = {"axes": axes_of(self.axes), "method": self.method or None}
            with bar("certifying") as done:
                certificate = certify(model, found.box(), progress=done, **settings)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UndyingError(f"--certify: {error}") from None
        _print(console, "", *str(certificate).splitlines())
        write_or_say(path, json.dumps(certificate.to_dict(), allow_nan=False))

    def _write(self, counted: Census, found: Probe, facts: Sequence[tuple[str, str]], verdict: Verdict) -> None:
        if self.junit is not None:
            from undying.report.gate import junit

            write_or_say(self.junit, junit(self.network.model, counted, verdict))
        if self.json is not None:
            judged = {"status": verdict.status, "checks": [vars(check) for check in verdict.checks]}
            content = {
                **counted.to_dict(),
                "model": self.network.model,
                "facts": dict(facts),
                "unreadable": [{"file": file, "reason": reason} for file, reason in found.unreadable],
                "gate": judged if verdict.checks else None,
            }
            write_or_say(self.json, json.dumps(content, allow_nan=False))

    def _changes(self, counted: Census, other: Census) -> Beside:
        from undying.report.beside import beside

        try:
            return beside(counted, other, other_data=self.other_data)
        except ValueError as error:
            said = str(error).replace("pass other_probe=True and read changes with care", "give --other-data")
            raise UndyingError(f"--beside {self.beside}: {said}") from None

    def _units(self, counted: Census) -> list[tuple[str, int]]:
        """Whose examples the page shows."""
        from undying.report.census import worst_units

        assert counted.examples is not None
        asked = []
        for word in self.examples_of:
            name, _, units = word.rpartition("=")
            if not name or not all(unit.isdecimal() for unit in units.split(",")):
                raise UndyingError(f"--examples-of {word!r} must be site=units, such as act=3,17")
            try:
                most = len(counted.examples[name].most)
            except KeyError as error:
                raise UndyingError(f"--examples-of {word!r}: {error.args[0]}") from None
            for unit in map(int, units.split(",")):
                if unit >= most:
                    raise UndyingError(f"--examples-of {word!r}: {name} has units 0 to {most - 1}, and no {unit}")
                asked.append((name, unit))
        return asked or worst_units(counted)

    def _write_page(
        self,
        counted: Census,
        facts: Sequence[tuple[str, str]],
        verdict: Verdict,
        changes: Beside | None,
        units: Sequence[tuple[str, int]],
    ) -> None:
        from undying.report.census import census_page, told
        from undying.report.examples import numbers_of

        samples: dict[int, Any] = {}
        if counted.examples is not None and units:
            samples, order = samples_at(Data(self.options, self.network), numbers_of(counted.examples, units))
            if order is None or order != counted.examples.order:
                why = (
                    "cannot be fingerprinted"
                    if order is None
                    else "gave other samples, or another order, the second time"
                )
                raise UndyingError(
                    f"--examples: {self.options.data} {why}, so the samples cannot be shown; leave out --html"
                )
        how = [
            *told(counted),
            *([("beside", str(self.beside))] if self.beside is not None else []),
            *((f"gate, {check.state}", check.said) for check in verdict.checks if check.state != "skipped"),
        ]
        model = self.network.model
        page = census_page(
            counted, model, [("model", model), *facts, *how], beside=changes, units=units, samples=samples
        )
        assert self.html is not None
        write_or_say(self.html, page)

    def _end(self, verdict: Verdict, found: Probe, console: Console) -> int:
        """Say how it ended.

        Raises:
            UndyingError: it cannot be judged.
        """
        passed = [check for check in verdict.of("passed") if check.place not in (TOTAL, BASELINE)]
        for check in verdict.checks:
            if check.state in ("failed", "noted") or (check.state == "passed" and check not in passed):
                _print(console, f"{check.state}: {check.said}")
        if passed:
            _print(console, f"passed: limits of single sites: {len(passed)}")
        if self._on_github:
            from undying.report.gate import github

            number = len(found.unreadable)
            left_out = [f"files that cannot be read and were left out: {number}"] if number else []
            _print(console, *github(verdict, left_out))
        if unjudged := verdict.of("unjudged"):
            given = {"--max-dead": self.max_dead, "--max-silent": self.max_silent, "--baseline": self.baseline}
            options = ", ".join(option for option, value in given.items() if value is not None)
            said = dict.fromkeys(check.said for check in unjudged)
            raise UndyingError(f"{options} cannot be judged: {'; '.join(said)}")
        _print(console, "the gate is not passed" if verdict.status else "the gate is passed")
        return verdict.status

    @property
    def _on_github(self) -> bool:
        return self.github or os.environ.get("GITHUB_ACTIONS") == "true"

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Says of a mistake where a verdict was to be, so that nobody finds an older one there."""
        try:
            yield
        except (UndyingError, OSError, MemoryError) as error:
            from undying.report.gate import github, junit_of_mistake

            said = " ".join(str(error).split()) or type(error).__name__
            if self.junit is not None:
                with contextlib.suppress(UndyingError):
                    write_or_say(self.junit, junit_of_mistake(self.network.model, said))
            if self._on_github:
                print(*github(Verdict([Check(TOTAL, "unjudged", said)])), sep="\n", flush=True)
            raise


def _print(console: Console, *lines: str) -> None:
    """A line each, whatever a name in it holds: a new line could be an order to the runner of GitHub Actions."""
    for line in lines:
        console.print(" ".join(line.splitlines()), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _outputs_of(given: Sequence[str]) -> dict[str, Callable[[Any], Any]]:
    """By name, what takes the units out of what is returned under it."""
    taken: dict[str, Callable[[Any], Any]] = {}
    for word in given:
        name, equals, spec = word.partition("=")
        taken[name] = find(spec, f"--outputs {name}=") if equals else itself
    return taken


def _show(console: Console, counted: Census, facts: Sequence[tuple[str, str]]) -> None:
    (_, data), *others = facts
    told = (f"{name}: {value}" for name, value in others)
    _print(console, *counted.table().splitlines(), f"counted on {data}", *told)
    if any(site.samples and site.silent is not None and site.silent.any() for site in counted.sites):
        _print(console, "silent units fire in fewer than about 3 / N of such samples (95 %)")


def _read(option: str, path: Path) -> Census:
    try:
        return Census.load(path)
    except ValueError as error:
        raise UndyingError(f"{option} {error}") from None
    except OSError as error:
        raise UndyingError(f"{option} {path} cannot be read: {error.strerror or error}") from None


def _facts(model: nn.Module, counted: Census, found: Probe, weights: str) -> list[tuple[str, str]]:
    """On what it was counted, in words."""
    facts = [("data", f"{_samples(counted)}: {found.source}"), ("weights", weights)]
    if found.preprocessing is not None:
        facts.append(("preprocessing", found.preprocessing))
    if found.unreadable:
        shown = "; ".join(f"{file} ({reason})" for file, reason in found.unreadable[:_SHOWN])
        more = f"; and {len(found.unreadable) - _SHOWN} more" if len(found.unreadable) > _SHOWN else ""
        facts.append(("unreadable, left out", f"{len(found.unreadable)}: {shown}{more}"))
    if found.passed_over:
        facts.append(("also in the folder, not counted", "; ".join(found.passed_over)))
    if idle := _never_called(model, counted):
        facts.append(("never called on these data, so not counted", ", ".join(idle)))
    return facts


def _never_called(model: nn.Module, counted: Census) -> list[str]:
    """Activations that the network holds, and in eval mode did not use."""
    places = [*counted, *counted.ambiguous, *counted.unrecognised, *counted.left_out]
    called = {place.partition("#")[0] for place in places}
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if is_activation(module):
            names.setdefault(module, []).append(name)
    parts = {part for module in names for part in module.modules() if part is not module}  # what one computes with
    return [own[0] for module, own in names.items() if module not in parts and called.isdisjoint(own)]


def _samples(counted: Census) -> str:
    samples = max((site.samples for site in counted.sites if site.samples is not None), default=None)
    return "an unknown number of samples" if samples is None else f"{samples} sample{'' if samples == 1 else 's'}"
