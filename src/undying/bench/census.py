"""What counting costs: a census beside a plain pass over the data, and a watched training step beside a plain one."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying.bench.machine import describe
from undying.bench.networks import resnet18
from undying.bench.page import Page, interval_note
from undying.bench.settings import check_device, check_time, clock, in_turn, inductor, one_and_all
from undying.bench.tables import Rows, ratio_cell
from undying.bench.timing import Ratio, Timings, measure, median_interval
from undying.census.census import census
from undying.census.watch import watch
from undying.lab.autoencoders.model import SparseAutoencoder, TopK
from undying.lab.models.mlp import mlp

_NONE = "–"
NEVER = 10**9
"""Steps between samples, when only what a watch costs in between is measured."""


def _mlp() -> tuple[nn.Module, Tensor]:
    return mlp((1024,), 10, depth=6, width=1024), torch.randn(256, 1024)


def _sae(latents: int, act: nn.Module) -> tuple[nn.Module, Tensor]:
    return SparseAutoencoder(256, latents, act), torch.randn(256, 256)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "resnet18": lambda: resnet18(32, 64),
    "mlp": _mlp,
    "sae-4k": lambda: _sae(4096, nn.ReLU()),
    "sae-16k": lambda: _sae(16_384, nn.ReLU()),
    "topk-16k": lambda: _sae(16_384, TopK(32)),
    "topk-64k": lambda: _sae(65_536, TopK(32)),
}
"""name -> the network and a batch: torchvision's on 32 images of 64 x 64, six layers of 1024 on 256 vectors, and sparse
autoencoders of 4,096 to 65,536 latents on 256 tokens of 256 numbers, with ReLU or with TopK of 32."""
OUTPUTS = {"topk-16k": "act", "topk-64k": "act"}
"""What a census is to count beside activations. A watch counts none of it, so that of these the census alone is measured."""


@dataclass(frozen=True)
class CensusSettings:
    """A census beside a plain pass over the data, and a watched training step beside a plain one."""

    models: tuple[str, ...] = ("resnet18", "mlp")
    """resnet18 (torchvision's, 32 images of 64 x 64), mlp (six layers of 1024, 256 vectors), or sparse autoencoders on 256 tokens of
    256 numbers: sae-4k and sae-16k (ReLU), topk-16k and topk-64k (TopK of 32)."""
    batches: int = 4
    """Batches of a census."""
    threads: tuple[int, ...] = field(default_factory=one_and_all)
    """Numbers of torch's threads; by default one and all."""
    seconds: float = 30.0
    """For each of census, step and compiled step, after warming up; at least six rounds."""
    no_compiled: bool = False
    """Leave out torch.compile, which takes a minute for each network."""
    device: str = "cpu"
    """Where to measure: cpu or cuda."""
    seed: int = 0
    """Of the weights, the data and the order within a round."""

    def check(self) -> None:
        """Raises UndyingError for what cannot be measured."""
        if not self.models or not set(self.models) <= set(NETWORKS):
            raise UndyingError(f"--models must be some of {', '.join(NETWORKS)}, not {' '.join(self.models) or 'none'}")
        if self.batches < 1:
            raise UndyingError(f"--batches must be at least 1, not {self.batches}")
        check_time(self.threads, self.seconds)
        check_device(self.device)


@dataclass(frozen=True)
class CensusCase:
    """One network and number of threads: ratios by (form, what it is compared to)."""

    model: str
    threads: int
    ratios: dict[tuple[str, str], Ratio]
    seconds: dict[str, float]
    """Median seconds of what is compared to."""

    def to_dict(self) -> dict[str, Any]:
        ratios = [{"form": form, "to": to, **ratio.to_dict()} for (form, to), ratio in self.ratios.items()]
        return {"model": self.model, "threads": self.threads, "ratios": ratios, "seconds": self.seconds}


def measure_census(settings: CensusSettings, started: Callable[[str], object] = print) -> Iterator[CensusCase]:
    """Every network and number of threads in turn; the number of threads is put back."""
    settings.check()
    for model in settings.models:
        for threads in in_turn(settings.threads):
            started(f"{model}, {threads} thread{'s' * (threads > 1)}")
            yield _case(settings, model, threads)


def census_page(settings: CensusSettings, cases: list[CensusCase]) -> Page:
    """The results for a terminal, a file of JSON and a page."""
    return Page(
        asdict(settings),
        describe(),
        [case.to_dict() for case in cases],
        [("What counting costs, in times of the same without", table(cases, wide=False))],
        [("What counting costs, in times of the same without", table(cases, wide=True))],
        f"{interval_note([r.n for case in cases for r in case.ratios.values()])} A step watched every 50 is worked "
        "out from two steps of which one is sampled, and two of which none is.",
    )


def _case(settings: CensusSettings, model: str, threads: int) -> CensusCase:
    def timed(forms: dict[str, Callable[[], object]]) -> Timings:
        return measure(forms, settings.seconds, seed=settings.seed, clock=clock(settings.device))

    def timed_steps(compiled_for: int | None) -> Timings:
        with contextlib.ExitStack() as watches:
            return timed(_steps(settings, model, compiled_for, watches))

    passes = timed(_passes(settings, model))
    ratios = {("census", "eval pass"): passes.ratio("census", "eval pass")}
    seconds = {"eval pass": passes.seconds("eval pass") / settings.batches}
    if model in OUTPUTS:  # which a watch does not count
        return CensusCase(model, threads, ratios, seconds)
    steps = timed_steps(None)
    ratios |= {
        ("step, every=1", "step"): steps.ratio("every=1", "plain"),
        ("step, every=50", "step"): _every_50(steps),
    }
    seconds["step"] = steps.seconds("plain") / 2
    if not settings.no_compiled:
        steps = timed_steps(threads)
        ratios[("compiled, every=50", "compiled")] = _every_50(steps)
        seconds["compiled"] = steps.seconds("plain") / 2
    return CensusCase(model, threads, ratios, seconds)


def _passes(settings: CensusSettings, model: str) -> dict[str, Callable[[], object]]:
    net, x, _ = workload(model, settings.seed, settings.device)
    data = [x] * settings.batches

    def plain() -> None:
        net.eval()
        with torch.no_grad():
            for batch in data:
                net(batch)

    return {"eval pass": plain, "census": lambda: census(net, data, outputs=OUTPUTS.get(model, ()))}


def _steps(
    settings: CensusSettings, model: str, compiled_for: int | None, watches: contextlib.ExitStack
) -> dict[str, Callable[[], object]]:
    """Two training steps: plain, with a watch that samples one of them, none, and (not compiled) both."""
    every = {"plain": None, "every=2": 2, "between": NEVER} | ({"every=1": 1} if compiled_for is None else {})
    return {name: _two_steps(settings, model, compiled_for, n, watches) for name, n in every.items()}


def _two_steps(
    settings: CensusSettings, model: str, compiled_for: int | None, every: int | None, watches: contextlib.ExitStack
) -> Callable[[], object]:
    net, x, y = workload(model, settings.seed, settings.device)
    run: Any = net
    if compiled_for is not None:
        run = torch.compile(net, dynamic=False, options=inductor(compiled_for, x.device))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    if every is not None:
        watches.enter_context(watch(run, optimizer, every=every))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(run(x), y).backward()
        optimizer.step()

    def two() -> None:
        step()
        step()

    # From here on the second step of two is the sampled one, so that between calls nothing is armed.
    step()
    return two


def _every_50(steps: Timings) -> Ratio:
    """A step of a watch that samples one of 50, times a plain one."""
    rounds = zip(steps.samples["plain"], steps.samples["every=2"], steps.samples["between"], strict=True)
    ratios = sorted((between + (sampled - between) * 2 / 50) / plain for plain, sampled, between in rounds)
    return Ratio(statistics.median(ratios), *median_interval(ratios), len(ratios))


def workload(model: str, seed: int, device: str = "cpu") -> tuple[nn.Module, Tensor, Tensor]:
    """One of ``NETWORKS`` in training mode, a batch and its labels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        net, x = NETWORKS[model]()
        y = torch.randint(10, (len(x),))
        return net.to(device).train(), x.to(device), y.to(device)


def table(cases: list[CensusCase], *, wide: bool) -> Rows:
    """A row a ratio, and one for the time of each thing that is compared to; what was not measured of a network has a dash."""
    rows = [["", *(f"{case.model}, {case.threads}T" for case in cases)]]
    for key in dict.fromkeys(key for case in cases for key in case.ratios):
        cells = (ratio_cell(case.ratios[key], wide=wide) if key in case.ratios else _NONE for case in cases)
        rows.append([key[0], *cells])
    for name in dict.fromkeys(name for case in cases for name in case.seconds):
        cells = (f"{1e3 * case.seconds[name]:.1f}" if name in case.seconds else _NONE for case in cases)
        rows.append([f"{name}, ms", *cells])
    return rows
