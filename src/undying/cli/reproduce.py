"""``undying reproduce``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undying._base.errors import UndyingError
from undying._base.text import duration
from undying.cli.progress import RunsTable
from undying.lab.execution import Execution
from undying.lab.recipe import one_of
from undying.papers.details import SECTIONS
from undying.papers.forecast import GPU_BASIS, KNOWN, Size, cpu_seconds, for_a_gpu, gpu_seconds, listed
from undying.papers.pipeline import Reproduction, carry_out, prepare, run_timed, train
from undying.papers.table import SCALES
from undying.papers.tables import TABLES, TIMED


@dataclass(frozen=True)
class ReproduceCommand:
    """Run a table of the SUGAR or BAReLU paper, and judge each of its claims.

    To resume after a stop or a crash, run the same command again. Runs are shared by tables of one folder.
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    """Table; see --list."""
    show: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the tables: what each says, its scales and their estimated time; do nothing else."""
    scale: str = "full"
    """Size: full (published; for a GPU), small (hours on two cores) or smoke (seconds, which say nothing)."""
    seeds: tuple[int, ...] = ()
    """One number: how many of the table's seeds to take. Several: the seeds themselves. Default: the table's."""
    run: tuple[str, ...] = ()
    """Train only the runs with these ids, of NAME.runs.csv, and print their numbers; no page is written."""
    recorded: Path | None = None
    """Count the runs in this NAME.runs.csv, of a page made before, as finished; what it lacks is trained."""
    execution: Annotated[Execution, tyro.conf.arg(name="")] = field(default_factory=Execution)
    out: Path | None = None
    """Folder for the runs and the page; default: undying-reproduce-SCALE."""
    dry_run: bool = False
    """Print the plan and the estimated time, and do nothing."""
    page_only: bool = False
    """Write the page of what is finished, and train nothing."""

    def __call__(self, console: Console) -> int:
        if self.show:
            _print_list(console)
            return 0
        if not self.name:
            raise UndyingError(f"name a table: {', '.join((*TABLES, *TIMED))} (undying reproduce --list)")
        say = partial(_say, console)
        if self.name in TIMED:
            return self._time(say)
        if self.run and self.recorded:
            raise UndyingError("--run trains a run again, and --recorded counts it as finished: give one of the two")
        job = prepare(self.name, self.scale, self.seeds, self.out, self.execution, self.recorded, self.run)
        if self.run:
            return self._again(console, job)
        if not self.page_only:
            _print_plan(say, job)
            if self.dry_run:
                return 0
        with RunsTable(job.store, [] if self.page_only else job.missing, console) as live:
            carry_out(job, training=not self.page_only, finished=live.finished, say=say)
        return 0

    def _time(self, say: Callable[[str], None]) -> int:
        table = TIMED[self.name]
        if self.seeds or self.run or self.recorded:
            raise UndyingError(f"{table.name} has no runs, and so no --seeds, --run and --recorded: it times")
        one_of("scale", self.scale, SCALES)
        if self.dry_run:
            seconds = table.scales[self.scale].seconds
            say(f"{table.name}, {self.scale} scale: {duration(seconds)} or more, on a machine left alone")
            return 0
        out = self.out or Path(f"undying-reproduce-{self.scale}")
        run_timed(table, self.scale, out, measuring=not self.page_only, say=say)
        return 0

    def _again(self, console: Console, job: Reproduction) -> int:
        """Only the runs of ``--run``."""
        with RunsTable(job.store, job.missing, console) as live:
            train(job, live.finished)
        most = {task.name: task.most for task in job.plan.scale.tasks}
        for o in job.results():
            by = most[o.planned.task]
            _say(
                console,
                f"{o.id} {o.planned.task} {o.planned.arm}, seed {o.planned.config.seed}, rate {o.planned.config.lr:g}: "
                f"{o.status}, {job.table.score} {by * o.accuracy}, on what is held out {by * o.validation}, "
                f"weights {o.weights}",
            )
        return 0


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_list(console: Console) -> None:
    for table in TABLES.values():
        _say(console, f"{table.name}\n    {table.says}")
        for name, scale in table.scales.items():
            runs, on_gpu, on_core = listed(scale)
            took = {
                "full": f"about {duration(on_gpu)} on one {'GPU' if for_a_gpu(scale) else 'core'}",
                "small": f"about {duration(on_core)} of one core",
                "smoke": "seconds",
            }[name]
            _say(console, f"    {name:<6} {runs:>4} runs, {took}")
    for timed in TIMED.values():
        _say(console, f"{timed.name}\n    {timed.says}")
        for name, timing in timed.scales.items():
            took = "seconds" if name == "smoke" else f"{duration(timing.seconds)} or more of this machine, left alone"
            _say(console, f"    {name:<6} {took}")
    _say(console, f"On a GPU: {GPU_BASIS}.")


def _print_plan(say: Callable[[str], None], job: Reproduction) -> None:
    say(f"{job.table.name}, {job.scale_name} scale: {job.table.says}")
    plan, missing, results = job.plan, job.missing, job.results()
    on_gpu = on_core = 0.0
    open_ones = set(missing)
    for task in plan.scale.tasks:
        runs = [planned for planned in plan.runs if planned.task == task.name]
        left = [planned for planned in runs if planned.config in open_ones]
        say(
            f"{task.name}: {task.model} on {task.data}, {task.epochs} epochs, {len(task.arms)} arms, seeds "
            f"{' '.join(map(str, plan.seeds[task.name]))}: {len(runs)} runs, {len(runs) - len(left)} finished"
        )
        for number, stage in enumerate(task.stages, 1):
            say(f"  {number}. {', '.join(stage.arms)} at {', '.join(f'{rate:g}' for rate in stage.rates)}")
        if left:
            size = Size.of(plan.datasets[task.data]) if task.data in plan.datasets else KNOWN[task.data]
            on_gpu += len(left) * gpu_seconds(task, size)
            done = [result.seconds for result in results if result.planned.task == task.name]
            on_core += len(left) * (sum(done) / len(done) if done else cpu_seconds(task, size))
    if job.table.shows and (announced := SECTIONS[job.table.shows].announce(plan.scale)):
        say(announced)
    if not missing:
        return
    if job.scale_name == "full" and for_a_gpu(plan.scale):
        say(f"estimated time on one GPU: {duration(on_gpu)} ({GPU_BASIS})")
    at_once = min(job.execution.runs_at_once, len(missing))
    say(
        f"estimated time here on the CPU: {duration(on_core / at_once)}, {at_once} runs at a time (from finished runs, or a "
        "training step timed now)"
    )
