"""What recycling while training costs: a training step with each policy beside one without."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F

from undying._base.errors import UndyingError
from undying.bench.census import NETWORKS, NEVER, CensusCase, table, workload
from undying.bench.machine import describe
from undying.bench.page import Page, interval_note
from undying.bench.settings import check_time, in_turn, one_and_all
from undying.bench.timing import Ratio, Timings, measure, median_interval
from undying.treat.policies.continual_backprop import ContinualBackprop
from undying.treat.policies.gradient_dormancy import GradientDormancy
from undying.treat.policies.policy import Policy
from undying.treat.policies.recycler import Recycler
from undying.treat.policies.redo import ReDo
from undying.treat.policies.self_normalized_resets import SelfNormalizedResets

AT_TIMES: dict[str, tuple[Policy, int]] = {
    "ReDo": (ReDo(every=1), ReDo().every),
    "GradientDormancy": (GradientDormancy(every=1), GradientDormancy().every),
}
"""Policies that look at one step in so many, here at each, so that what a look costs is seen."""
ALWAYS: dict[str, Policy] = {
    "ContinualBackprop": ContinualBackprop(),
    "SelfNormalizedResets": SelfNormalizedResets(),
}
"""Policies that look at every step."""


@dataclass(frozen=True)
class PolicySettings:
    """A training step with a Recycler beside a plain one, each policy with its defaults."""

    models: tuple[str, ...] = ("resnet18", "mlp")
    """resnet18 (torchvision's, 32 images of 64 x 64) or mlp (six layers of 1024, 256 vectors)."""
    threads: tuple[int, ...] = field(default_factory=one_and_all)
    """Numbers of torch's threads; by default one and all."""
    seconds: float = 60.0
    """For all policies together at one network and number of threads, after warming up; at least six rounds."""
    cpu_time: bool = False
    """Measure CPU time instead of wall time, for a machine that has other work too."""
    seed: int = 0
    """Of the weights, the data and the order within a round."""

    def check(self) -> None:
        """Raises UndyingError for what cannot be measured."""
        if not self.models or not set(self.models) <= set(NETWORKS):
            raise UndyingError(f"--models must be some of {', '.join(NETWORKS)}, not {' '.join(self.models) or 'none'}")
        check_time(self.threads, self.seconds)


def measure_policies(settings: PolicySettings, started: Callable[[str], object] = print) -> Iterator[CensusCase]:
    """Every network and number of threads in turn; the number of threads is put back."""
    settings.check()
    for model in settings.models:
        for threads in in_turn(settings.threads):
            started(f"{model}, {threads} thread{'s' * (threads > 1)}")
            with contextlib.ExitStack() as recyclers:
                policies = {"between": ReDo(every=NEVER), **{name: p for name, (p, _) in AT_TIMES.items()}, **ALWAYS}
                steps = {name: _step(settings, model, policy, recyclers) for name, policy in policies.items()}
                steps["plain"] = _step(settings, model, None, recyclers)
                clock = time.process_time if settings.cpu_time else time.perf_counter
                timings = measure(steps, settings.seconds, seed=settings.seed, clock=clock)
            ratios = {(name, "step"): _at_interval(timings, name, every) for name, (_, every) in AT_TIMES.items()}
            ratios |= {(name, "step"): timings.ratio(name, "plain") for name in ALWAYS}
            ratios |= {(f"{name}, a look", "step"): timings.ratio(name, "plain") for name in AT_TIMES}
            yield CensusCase(model, threads, ratios, {"step": timings.seconds("plain")})


def policies_page(settings: PolicySettings, cases: list[CensusCase]) -> Page:
    """The results for a terminal, a file of JSON and a page."""
    title = "A training step while units are recycled, in times of the same without"
    return Page(
        asdict(settings),
        describe(),
        [case.to_dict() for case in cases],
        [(title, table(cases, wide=False))],
        [(title, table(cases, wide=True))],
        f"{interval_note([r.n for case in cases for r in case.ratios.values()])} ReDo and GradientDormancy look at one step in "
        f"{ReDo().every}: their figure is worked out from steps of which each is looked at, and steps of which none is.",
    )


def _step(
    settings: PolicySettings, model: str, policy: Policy | None, recyclers: contextlib.ExitStack
) -> Callable[[], object]:
    net, x, y = workload(model, settings.seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    recycler = None
    if policy is not None:
        recycler = recyclers.enter_context(Recycler(net, optimizer, policy, probe=x[:2]))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        if recycler is not None:
            recycler.step()

    return step


def _at_interval(timings: Timings, name: str, every: int) -> Ratio:
    """A step with a policy that looks at one in ``every``, times a plain one."""
    rounds = zip(timings.samples["plain"], timings.samples[name], timings.samples["between"], strict=True)
    ratios = sorted((between + (look - between) / every) / plain for plain, look, between in rounds)
    return Ratio(statistics.median(ratios), *median_interval(ratios), len(ratios))
