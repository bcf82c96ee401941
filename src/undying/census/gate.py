"""Whether a census is within limits: shares of dead and silent units, and none that died since an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

from undying._base import text
from undying._base.patterns import SKIPPED
from undying.census.results import Census
from undying.census.site import Site

TOTAL = "total"
BASELINE = "baseline"
State = Literal["passed", "failed", "unjudged", "skipped", "noted"]
_SHOWN = 10


@dataclass(frozen=True)
class Limits:
    """Largest shares of units in a state that pass.

    >>> limits = Limits.read("dead", ["0.05", "*=0.5", "head.*=0.2"])
    >>> limits.total, limits.of("body.act"), limits.of("head.act")
    (0.05, ('*', 0.5), ('head.*', 0.2))
    """

    state: Literal["dead", "silent"]
    total: float | None = None
    """Of all units together."""
    sites: tuple[tuple[str, float], ...] = ()
    """Patterns (``fnmatch``) of sites, and the share of each of these; of several the last that matches counts."""

    @classmethod
    def read(cls, state: Literal["dead", "silent"], words: Sequence[str]) -> Limits:
        """From ``0.05``, for all units together, and ``features.*=0.2``, for each site that matches.

        Raises:
            ValueError: none is given, a share is no number from 0 to 1, or there are two for all units.
        """
        if not words:
            raise ValueError("needs a share from 0 to 1, such as 0.05, or one of sites, such as 'features.*=0.2'")
        total, sites = None, []
        for word in words:
            pattern, sign, number = word.rpartition("=")
            share = _share(number)
            if share is None or (sign and not pattern):
                raise ValueError(
                    f"is a share from 0 to 1, such as 0.05, or one of sites, such as 'features.*=0.2', not {word!r}"
                )
            if pattern:
                sites.append((pattern, share))
            elif total is not None:
                raise ValueError(f"has two shares for all units, {total:g} and {share:g}; keep one")
            else:
                total = share
        return cls(state, total, tuple(sites))

    def of(self, site: str) -> tuple[str, float] | None:
        """The pattern and the share that hold for one site."""
        return next((limit for limit in reversed(self.sites) if _matches(limit[0], site)), None)

    @property
    def option(self) -> str:
        """As the command line has it."""
        return f"--max-{self.state}"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    place: str
    """A site, ``total`` or ``baseline``."""
    state: State
    """``unjudged`` where it cannot be known whether it passes, ``noted`` for what to bear in mind."""
    said: str


@dataclass(frozen=True)
class Verdict:
    """All checks."""

    checks: list[Check]

    def of(self, state: State) -> list[Check]:
        """The checks that ended so."""
        return [check for check in self.checks if check.state == state]

    @property
    def status(self) -> int:
        """0 passed, 1 failed, 2 where anything cannot be judged."""
        return 2 if self.of("unjudged") else 1 if self.of("failed") else 0


def judge(
    census: Census,
    limits: Sequence[Limits] = (),
    baseline: Census | None = None,
    *,
    other_data: bool = False,
    allow_unrecognised: bool = False,
    uncalled: Sequence[str] = (),
) -> Verdict:
    """Hold a census against limits and an earlier census.

    Args:
        census: what was counted.
        limits: of dead or silent units.
        baseline: an earlier census of the same network; a unit fails that was not silent, or not dead, and now is.
        other_data: compare with it although it saw other data.
        allow_unrecognised: judge by the counted units where places are not recognised.
        uncalled: activations that the network holds and did not call, by which it cannot be judged.

    >>> import torch, undying
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    >>> _ = torch.nn.init.constant_(net[0].bias, -100.0)
    >>> verdict = judge(undying.census(net, torch.randn(8, 2)), [Limits.read("dead", ["0.05"])])
    >>> verdict.status, verdict.checks[0].said
    (1, '100.00 % of the units are dead (4 of 4), more than the 5 % of --max-dead')
    """
    checks = [*_uncounted(census, allow_unrecognised)]
    for name in uncalled:
        said = (
            f"{name} was never called on these data, so its units are not counted; --allow-uncalled judges by the rest"
        )
        checks.append(Check(name, "unjudged", said))
    for limit in limits:
        checks += [*_of_all(census, limit), *_of_each(census, limit)]
    if baseline is not None:
        checks += _since(census, baseline, other_data)
    return Verdict(checks)


def _uncounted(census: Census, allow_unrecognised: bool) -> Iterator[Check]:
    for name in census.ambiguous:
        yield Check(name, "unjudged", f"{name} not counted; give --axes")
    for name, place in census.unrecognised.items():
        said = f"not recognised, so not counted: {name} ({place})"
        way_out = "; --skip leaves it out, --allow-unrecognised judges by the rest"
        yield Check(name, "noted", said) if allow_unrecognised else Check(name, "unjudged", said + way_out)
    for name, reason in census.left_out.items():
        if reason.startswith(SKIPPED):
            yield Check(name, "skipped", f"{name}: {reason}")
        else:
            yield Check(name, "unjudged", f"{name} ({reason}) not counted; --skip leaves it out")
    for site in census.sites:
        if bad := int((site.nonfinite > 0).sum()):
            said = (
                f"{site.name}: pre-activations of {bad} units are infinite or NaN, so they are neither dead nor alive"
            )
            yield Check(site.name, "unjudged", f"{said}; mend the weights or the data, or --skip leaves it out")


def _of_all(census: Census, limit: Limits) -> Iterator[Check]:
    if limit.total is None:
        return
    said = [site for site in census.sites if _units(site, limit) is not None]
    unsaid = [site.name for site in census.sites if _units(site, limit) is None]
    if not said or (limit.state == "dead" and unsaid):
        yield Check(TOTAL, "unjudged", _unknown(limit, unsaid))
    else:
        yield _within(TOTAL, said, limit, limit.total, limit.option)
        if unsaid:
            yield Check(TOTAL, "noted", f"silent is not said of {_listed(unsaid)}: {limit.option} is of the others")


def _of_each(census: Census, limit: Limits) -> Iterator[Check]:
    for pattern, share in limit.sites:
        words = f"{limit.option} '{pattern}={share:g}'"
        matched = [site for site in census.sites if _matches(pattern, site.name)]
        if not matched:
            sites = _listed([site.name for site in census.sites])
            yield Check(TOTAL, "unjudged", f"{words} matches no counted site; sites: {sites}")
            continue
        if all(limit.of(site.name) != (pattern, share) for site in matched):
            yield Check(TOTAL, "unjudged", f"{words} has no effect, as later patterns match all its sites; put it last")
            continue
        said = [site for site in matched if _units(site, limit) is not None]
        unsaid = [site.name for site in matched if _units(site, limit) is None]
        if unsaid and (limit.state == "dead" or not said):
            yield from (Check(name, "unjudged", _unknown(limit, [name])) for name in unsaid)
        yield from (
            _within(site.name, [site], limit, share, words) for site in said if limit.of(site.name) == (pattern, share)
        )


def _within(place: str, sites: Sequence[Site], limit: Limits, share: float, words: str) -> Check:
    units = sum(site.units for site in sites)
    count = sum(int(state.sum()) for site in sites if (state := _units(site, limit)) is not None)
    passed = count / units <= share
    whose = "the" if place == TOTAL else "its"
    said = (
        f"{100 * count / units:.2f} % of {whose} units are {limit.state} ({count} of {units}), "
        f"{'within' if passed else 'more than'} the {100 * share:g} % of {words}"
    )
    return Check(place, "passed" if passed else "failed", said if place == TOTAL else f"{place}: {said}")


def _units(site: Site, limit: Limits) -> Tensor | None:
    return site.dead if limit.state == "dead" else site.silent


def _unknown(limit: Limits, sites: Sequence[str]) -> str:
    if not sites:
        return "no site is counted"
    if limit.state == "dead":
        return f"dead is unknown at {_listed(sites)}; give --gradients"
    return f"silent is not said of {_listed(sites)}, nor of any other site that {limit.option} names"


def _since(census: Census, baseline: Census, other_data: bool) -> Iterator[Check]:
    if census.probe is None or census.probe != baseline.probe:
        differ = f"the baseline saw other data (probe {baseline.probe}, now {census.probe})"
        if not other_data:
            way_out = "count on the same, prepared alike, or --other-data compares all the same"
            yield Check(BASELINE, "unjudged", f"{differ}; {way_out}")
            return
        yield Check(BASELINE, "noted", f"{differ}, so a change may be the data's")
    left = [name for name in census if name in {*baseline.ambiguous, *baseline.left_out, *baseline.unrecognised}]
    if left:
        said = f"the baseline did not count {_listed(left)}; make it again, or --skip leaves it out"
        yield Check(BASELINE, "unjudged", said)
    try:
        pairs = census.paired(baseline)
    except ValueError as error:
        yield Check(BASELINE, "unjudged", f"{error}; make the baseline again")
        return
    states = ["silent"]
    if census.loss == baseline.loss:
        states.append("dead")
    else:
        yield Check(BASELINE, "noted", f"dead is not compared: by loss {census.loss}, in the baseline {baseline.loss}")
    yield from _changes(pairs, states)


def _changes(pairs: Sequence[tuple[Site, Site]], states: Sequence[str]) -> Iterator[Check]:
    """Of each site with what it was."""
    compared, unsaid, failed = 0, [], 0
    for now, then in pairs:
        both = [(getattr(now, state), getattr(then, state)) for state in states]
        new = [ours & ~theirs for ours, theirs in both if ours is not None and theirs is not None]
        if not new:
            unsaid.append(now.name)
            continue
        compared += 1
        if died := torch.stack(new).any(0).nonzero().flatten().tolist():
            failed += 1
            said = f"{now.name}: {len(died)} units are newly {' or '.join(states)}: {_listed(text.ranges(died))}"
            yield Check(now.name, "failed", said)
    if not compared:
        said = (
            "nothing to compare with the baseline: neither silent nor dead is said in both; give --gradients for both"
        )
        yield Check(BASELINE, "unjudged", said)
    elif unsaid:
        said = f"not compared with the baseline, as neither silent nor dead is said: {_listed(unsaid)}"
        yield Check(BASELINE, "noted", said)
    if compared and not failed:
        said = f"no unit is newly {' or '.join(states)} since the baseline, at {compared} sites"
        yield Check(BASELINE, "passed", said)


def _share(word: str) -> float | None:
    try:
        share = float(word)
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None  # NaN is neither


def _matches(pattern: str, site: str) -> bool:
    """The name of a module means all its calls, ``relu`` and ``relu#2``."""
    return any(name == pattern or fnmatchcase(name, pattern) for name in (site, site.partition("#")[0]))


def _listed(names: Sequence[str]) -> str:
    """
    >>> _listed([str(i) for i in range(12)])
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
