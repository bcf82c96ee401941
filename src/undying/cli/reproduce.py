"""``undying reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undying._base.errors import UndyingError
from undying._base.text import duration
from undying.cli.progress import RunsTable
from undying.lab import executors
from undying.lab.execution import Execution
from undying.lab.recipe import one_of
from undying.lab.settings import AnyRun, RunConfig
from undying.lab.store import Store
from undying.papers import landscape, overhead
from undying.papers.analysis import Analysis, analyze
from undying.papers.detail_data import read_details
from undying.papers.forecast import GPU_BASIS, KNOWN, Size, cpu_seconds, for_a_gpu, gpu_seconds, listed
from undying.papers.page.overhead import write_overhead
from undying.papers.page.page import write_page
from undying.papers.plan import Plan, Planned, make_plan
from undying.papers.records import read_records
from undying.papers.results import RunResult, read_results
from undying.papers.table import SCALES, Table
from undying.papers.tables import TABLES, TIMED, find


@dataclass(frozen=True)
class ReproduceCommand:
    """Run a table of the SUGAR or BAReLU paper, and write a page with what was published, our numbers and a verdict.

    Stopped or killed, the same command goes on where it was. Runs are shared by tables of one folder.
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    """Table; see --list."""
    show: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the tables: what each says, its scales and their estimated time; do nothing else."""
    scale: str = "full"
    """Size: full (published; for a GPU), small (hours on two cores) or smoke (seconds, which say nothing)."""
    seeds: tuple[int, ...] = ()
    """One number: the first so many of the table's seeds, and more. Several: these seeds. Default: the table's."""
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
        one_of("scale", self.scale, SCALES)
        out = self.out or Path(f"undying-reproduce-{self.scale}")
        if self.name in TIMED:
            return self._time(console, TIMED[self.name], out)
        table = find(self.name)
        plan = make_plan(table.scales[self.scale], self.seeds, self.execution.data_root)
        store = Store(out)
        if self.run:
            if self.recorded:
                raise UndyingError(
                    "--run trains a run again, and --recorded counts it as finished: give one of the two"
                )
            return self._one_again(console, plan, store)
        if self.page_only:
            self._write(console, table, plan, store)
            return 0
        finished = self._finished(table, plan, store)  # a damaged run is found now, and not after hours of training
        missing = _missing(plan.runs, finished)
        _print_plan(console, table, self.scale, plan, finished, self.execution, missing)
        if self.dry_run:
            return 0
        try:
            self._train(console, missing, store)
            self._chart(console, plan, store)
        finally:  # stopped or failed, the page says what is there
            self._write(console, table, plan, store)
        return 0

    def _time(self, console: Console, table: overhead.Overhead, out: Path) -> int:
        if self.seeds or self.run or self.recorded:
            raise UndyingError(f"{table.name} has no runs, and so no --seeds, --run and --recorded: it times")
        stored, scale = out / f"{table.name}.json", table.scales[self.scale]
        if self.dry_run:
            _say(
                console, f"{table.name}, {self.scale} scale: {duration(scale.seconds)} or more, on a machine left alone"
            )
            return 0
        try:
            if not self.page_only:
                overhead.store(overhead.measure(self.scale, scale, lambda what: _say(console, what)), stored)
            result = overhead.read(stored)
            if result.scale_name != self.scale:
                raise UndyingError(f"{stored} was measured at {result.scale_name} scale; give that, or another --out")
            page = write_overhead(table, result, out)
        except OSError as error:
            raise UndyingError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None
        for found in overhead.judge(table, result):
            _say(console, f"  {found.verdict:<24} {found.form}: {found.part}")
        _say(console, f"page: {page}")
        return 0

    def _one_again(self, console: Console, plan: Plan, store: Store) -> int:
        by_id = {planned.config.id: planned for planned in plan.runs}
        unknown = [name for name in self.run if name not in by_id]
        if unknown:
            raise UndyingError(
                f"--run {unknown[0]} is no run of {self.name} at {self.scale} scale with these data and seeds; "
                f"{self.name}.runs.csv names its runs"
            )
        chosen = [by_id[name] for name in self.run]
        wanted = replace(plan, runs=tuple(chosen))
        self._train(console, _missing(chosen, read_results(wanted, store)), store)
        for o in read_results(wanted, store):
            most = next(task.most for task in plan.scale.tasks if task.name == o.planned.task)
            _say(
                console,
                f"{o.id} {o.planned.task} {o.planned.arm}, seed {o.planned.config.seed}, rate {o.planned.config.lr:g}: "
                f"{o.status}, {find(self.name).score} {most * o.accuracy}, on what is held out {most * o.validation}, "
                f"weights {o.weights}",
            )
        return 0

    def _finished(self, table: Table, plan: Plan, store: Store) -> tuple[RunResult, ...]:
        """Runs of the store, and those on record that it does not have."""
        recorded = read_records(table, plan, self.recorded) if self.recorded else ()
        found = {o.planned: o for o in (*recorded, *read_results(plan, store))}
        return tuple(found[planned] for planned in plan.runs if planned in found)

    def _train(self, console: Console, missing: Sequence[AnyRun], store: Store) -> None:
        with RunsTable(store, missing, console) as live:
            executors.run(missing, store.out, self.execution, live.finished)

    def _chart(self, console: Console, plan: Plan, store: Store) -> None:
        """The loss landscapes that are not there yet, for a table that shows any."""
        if (grid := plan.scale.grid) is None:
            return
        runs = [planned.config for planned in plan.runs if isinstance(planned.config, RunConfig)]
        for number, config in enumerate(runs, 1):
            if landscape.read(config, grid, store) is None:
                _say(console, f"landscape {number} of {len(runs)}: {config.activation}, seed {config.seed}")
                try:
                    landscape.chart(config, grid, self.execution, store)
                except OSError as error:
                    raise UndyingError(
                        f"cannot write to {store.out}: {error.strerror}; make room and give the same command to go on"
                    ) from None

    def _write(self, console: Console, table: Table, plan: Plan, store: Store) -> None:
        results = self._finished(table, plan, store)
        analysis = analyze(table, self.scale, plan, results)
        analysis = replace(analysis, details=read_details(table, plan, results, store))
        try:
            page = write_page(analysis, store.out, self.seeds)
        except OSError as error:
            raise UndyingError(
                f"cannot write the page to {store.out}: {error.strerror}; choose another folder with --out"
            ) from None
        _print_verdicts(console, analysis)
        _say(console, f"page: {page}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _missing(runs: Sequence[Planned], finished: Sequence[RunResult]) -> list[AnyRun]:
    # Two tasks can share runs, where one network stands for both.
    there = {o.planned.config for o in finished}
    return [config for config in dict.fromkeys(planned.config for planned in runs) if config not in there]


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


def _print_plan(
    console: Console,
    table: Table,
    scale: str,
    plan: Plan,
    finished: Sequence[RunResult],
    execution: Execution,
    missing: list[AnyRun],
) -> None:
    _say(console, f"{table.name}, {scale} scale: {table.says}")
    on_gpu = on_core = 0.0
    open_ones = set(missing)
    for task in plan.scale.tasks:
        runs = [planned for planned in plan.runs if planned.task == task.name]
        left = [planned for planned in runs if planned.config in open_ones]
        _say(
            console,
            f"{task.name}: {task.model} on {task.data}, {task.epochs} epochs, {len(task.arms)} arms, seeds "
            f"{' '.join(map(str, plan.seeds[task.name]))}: {len(runs)} runs, {len(runs) - len(left)} finished",
        )
        for number, stage in enumerate(task.stages, 1):
            _say(console, f"  {number}. {', '.join(stage.arms)} at {', '.join(f'{rate:g}' for rate in stage.rates)}")
        if left:
            size = Size.of(plan.datasets[task.data]) if task.data in plan.datasets else KNOWN[task.data]
            on_gpu += len(left) * gpu_seconds(task, size)
            done = [result.seconds for result in finished if result.planned.task == task.name]
            on_core += len(left) * (sum(done) / len(done) if done else cpu_seconds(task, size))
    if (grid := plan.scale.grid) is not None:
        _say(
            console,
            f"then the loss around the end of each run: {grid.points} x {grid.points} points on {grid.images:,} images, "
            "which the estimate leaves out",
        )
    if not missing:
        return
    if scale == "full" and for_a_gpu(plan.scale):
        _say(console, f"estimated time on one GPU: {duration(on_gpu)} ({GPU_BASIS})")
    slots = min(execution.slots, len(missing))
    _say(
        console,
        f"estimated time here on the CPU: {duration(on_core / slots)}, {slots} runs at a time (from finished runs, or a "
        "training step timed now)",
    )


def _print_verdicts(console: Console, analysis: Analysis) -> None:
    done, planned = len(analysis.results), len(analysis.plan.runs)
    _say(console, f"{analysis.table.name}, {analysis.scale_name} scale: {done} of {planned} runs")
    for found in analysis.claims:
        _say(console, f"  {found.verdict:<24} {found.claim.task}: {found.claim.text}")
