"""A training step of a network from end to end, with every form in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from undying.bench.networks import NETWORK_BASELINE, NETWORK_FORMS, Workload, workload
from undying.bench.settings import TrainingSettings, choose, clock, in_turn, inductor
from undying.bench.timing import Timings, measure


@dataclass(frozen=True)
class TrainingCase:
    """One network and number of threads: every form's timings, side by side."""

    model: str
    threads: int
    timings: Timings

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "threads": self.threads,
            "forms": {
                name: {
                    "seconds": self.timings.seconds(name),
                    "ratio": self.timings.ratio(name, NETWORK_BASELINE).to_dict(),
                }
                for name in self.timings.samples
            },
        }


def measure_training(settings: TrainingSettings, started: Callable[[str], object] = print) -> Iterator[TrainingCase]:
    """Every network and number of threads in turn; the number of threads is put back."""
    settings.check()
    forms = choose(settings.forms, NETWORK_FORMS, always=NETWORK_BASELINE)
    for model in settings.models:
        for threads in in_turn(settings.threads):
            started(f"{model}, {threads} thread{'s' * (threads > 1)}")
            steps = {}
            for form in forms:
                work = workload(model, form, settings.batch, settings.side, settings.seed, settings.device)
                steps[form.name] = _step(work, None)
                if settings.compiled:
                    work = workload(model, form, settings.batch, settings.side, settings.seed, settings.device)
                    steps[f"{form.name} compiled"] = _step(work, threads)
            yield TrainingCase(
                model, threads, measure(steps, settings.seconds, seed=settings.seed, clock=clock(settings.device))
            )


def _step(work: Workload, compiled_for: int | None) -> Callable[[], object]:
    optimizer = torch.optim.SGD(work.model.parameters(), lr=1e-4, momentum=0.9)
    run = None
    if compiled_for is not None:
        run = torch.compile(work.model, dynamic=False, options=inductor(compiled_for, work.images.device))

    def step() -> None:
        optimizer.zero_grad()
        work.loss(run).backward()
        optimizer.step()

    return step
