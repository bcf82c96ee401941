"""From the name of a table to its page: plan, train what is missing, read each run once, analyze, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from undying._base.errors import UndyingError
from undying.lab import executors
from undying.lab.execution import Execution
from undying.lab.finished import FinishedRuns
from undying.lab.recipe import one_of
from undying.lab.settings import AnyRun
from undying.lab.store import Store
from undying.papers import overhead
from undying.papers.analysis import Analysis, analyze
from undying.papers.details import SECTIONS, read_sections
from undying.papers.overhead import Overhead
from undying.papers.page.overhead import write_overhead
from undying.papers.page.page import write_page
from undying.papers.plan import Plan, make_plan
from undying.papers.records import read_records
from undying.papers.results import RunResult, run_results
from undying.papers.table import SCALES, Table
from undying.papers.tables import find


@dataclass(frozen=True)
class Reproduction:
    """A table at a scale with its runs, and the folder in which they are."""

    table: Table
    scale_name: str
    seeds: tuple[int, ...]
    """Those that were asked for; none for the table's."""
    plan: Plan
    store: Store
    execution: Execution
    finished: FinishedRuns
    """Those in the folder, as read from it."""
    recorded: tuple[RunResult, ...]
    """Those of an earlier page."""

    @property
    def missing(self) -> list[AnyRun]:
        """The runs that are neither in the folder nor recorded."""
        recorded = {result.planned.config for result in self.recorded}
        return [config for config in self.finished.missing if config not in recorded]

    def results(self) -> tuple[RunResult, ...]:
        """Of every run that is there, in the plan's order. A run of the folder goes before its record."""
        found = {result.planned: result for result in (*self.recorded, *run_results(self.plan, self.finished))}
        return tuple(found[planned] for planned in self.plan.runs if planned in found)


def run(
    name: str,
    *,
    scale: str = "full",
    seeds: Sequence[int] = (),
    out: Path | str | None = None,
    execution: Execution | None = None,
    recorded: Path | None = None,
    train: bool = True,
    finished: Callable[[AnyRun], None] = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> Analysis:
    """Run a table and write its page, as ``undying reproduce`` does.

    Args:
        name: of the table; ``undying reproduce --list`` has them.
        scale: ``"full"``, ``"small"`` or ``"smoke"``.
        seeds: one number for the first so many of the table's, several for these; default: the table's.
        out: folder for the runs and the page NAME.md; default: undying-reproduce-SCALE. Finished runs in it are used.
        execution: how to run it; default: processes of this machine, one a core.
        recorded: the NAME.runs.csv of a page made before, whose runs count as finished.
        train: train what is missing; otherwise the page is of what is finished.
        finished: called after each run.
        say: given each line of what ``undying reproduce`` prints after its plan.

    Stopped or failed, it writes the page of what is there. Runs are processes of their own: a script that calls this needs
    ``if __name__ == "__main__":``.

    Raises:
        RunsFailedError: runs failed; the others are finished.
        UndyingError: the table, its data or a finished run cannot be used, or the folder cannot be written.
    """
    return carry_out(prepare(name, scale, seeds, out, execution, recorded), training=train, finished=finished, say=say)


def prepare(
    name: str,
    scale: str,
    seeds: Sequence[int] = (),
    out: Path | str | None = None,
    execution: Execution | None = None,
    recorded: Path | None = None,
    only: Sequence[str] = (),
) -> Reproduction:
    """Plan, and read the runs that are there: a damaged one is found now, and not after hours of training.

    Args:
        name, scale, seeds, out, execution, recorded: as in :func:`run`.
        only: ids of runs; without them all of the table.
    """
    one_of("scale", scale, SCALES)
    table, execution = find(name), execution or Execution()
    plan = make_plan(table.scales[scale], seeds, execution.data_root)
    if only:
        by_id = {planned.config.id: planned for planned in plan.runs}
        unknown = [run_id for run_id in only if run_id not in by_id]
        if unknown:
            raise UndyingError(
                f"--run {unknown[0]} is no run of {name} at {scale} scale with these data and seeds; "
                f"{name}.runs.csv names its runs"
            )
        plan = replace(plan, runs=tuple(by_id[run_id] for run_id in only))
    store = Store(Path(out or f"undying-reproduce-{scale}"))
    return Reproduction(
        table=table,
        scale_name=scale,
        seeds=tuple(seeds),
        plan=plan,
        store=store,
        execution=execution,
        recorded=read_records(table, plan, recorded) if recorded else (),
        finished=FinishedRuns(store, (planned.config for planned in plan.runs)),
    )


def train(job: Reproduction, finished: Callable[[AnyRun], None] = lambda _: None) -> None:
    """Train the missing runs; ``finished`` is called after each."""
    executors.run(job.missing, job.store.out, job.execution, finished)
    job.finished.look()


def carry_out(
    job: Reproduction,
    *,
    training: bool = True,
    finished: Callable[[AnyRun], None] = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> Analysis:
    """Train, analyze and write the page; see :func:`run`."""
    try:
        if training:
            train(job, finished)
            if job.table.shows:
                SECTIONS[job.table.shows].compute(job.plan, job.execution, job.store, say)
    finally:  # stopped or failed, the page says what is there
        job.finished.look()
        analysis = _written(job, say)
    return analysis


def _written(job: Reproduction, say: Callable[[str], object]) -> Analysis:
    results, sections = read_sections(job.table, job.plan, job.results(), job.store)
    analysis = analyze(job.table, job.scale_name, job.plan, results)
    try:
        page = write_page(analysis, job.store.out, job.seeds, sections)
    except OSError as error:
        raise UndyingError(
            f"cannot write the page to {job.store.out}: {error.strerror}; choose another folder with --out"
        ) from None
    say(f"{job.table.name}, {job.scale_name} scale: {len(results)} of {len(job.plan.runs)} runs")
    for claim in analysis.claims:
        say(f"  {claim.verdict:<24} {claim.claim.task}: {claim.claim.text}")
    say(f"to explore: {page.with_suffix('.html')}")
    say(f"page: {page}")
    return analysis


def run_timed(
    table: Overhead, scale: str, out: Path, *, measuring: bool = True, say: Callable[[str], object] = lambda _: None
) -> None:
    """Time a table of wall-clock ratios, or take the times that are in ``out``, and write its page.

    Raises:
        UndyingError: nothing was measured yet at this scale, or the folder cannot be written.
    """
    one_of("scale", scale, SCALES)
    stored = out / f"{table.name}.json"
    try:
        if measuring:
            overhead.store(overhead.measure(scale, table.scales[scale], say), stored)
        result = overhead.read(stored)
        if result.scale_name != scale:
            raise UndyingError(f"{stored} was measured at {result.scale_name} scale; give that, or another --out")
        page = write_overhead(table, result, out)
    except OSError as error:
        raise UndyingError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None
    for found in overhead.judge(table, result):
        say(f"  {found.verdict:<24} {found.form}: {found.part}")
    say(f"to explore: {page.with_suffix('.html')}")
    say(f"page: {page}")
