"""``undying compare`` and ``undying report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from undying._base.errors import RunsFailedError, UndyingError
from undying._base.files import write_or_say
from undying._base.text import duration
from undying.lab.execution import Execution
from undying.lab.recipe import one_of
from undying.lab.settings import Settings
from undying.scores.reading import Reading

if TYPE_CHECKING:
    from undying.lab.plan import Plan
    from undying.lab.results import Results

_OUT = Path("undying-compare")


@dataclass(frozen=True)
class CompareCommand:
    """Train one network with several activations and seeds, and report what changed.

    By default it needs nothing but the package. To resume after a stop or a crash, run the same command again.
    """

    settings: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)
    execution: Annotated[Execution, tyro.conf.arg(name="")] = field(default_factory=Execution)
    out: Path = _OUT
    """Folder for the runs and the report. Finished runs in it are kept and used."""
    dry_run: bool = False
    """Print the plan and the estimated time, and do nothing else."""

    def __call__(self, console: Console) -> int:
        from undying.lab.executors.processes import warm_up

        if not self.dry_run:
            warm_up(self.execution)
        from undying.cli.progress import RunsTable
        from undying.lab.comparison import carry_out, estimate_seconds
        from undying.lab.plan import plan
        from undying.lab.status import others_under_way
        from undying.report.live import LivePage

        todo = plan(self.settings, self.out, self.execution)
        _print_plan(console, todo, self.execution.runs_at_once)
        if others := others_under_way(todo.store, todo.runs):
            console.print(
                f"{others} run{'s' * (others > 1)} of another comparison {'are' if others > 1 else 'is'} being trained in {self.out}, and its report is in "
                "the same file: name another folder with --out to keep both",
                markup=False,
                highlight=False,
            )
        if self.dry_run:
            seconds = estimate_seconds(todo, self.execution)
            console.print(f"estimated time: {duration(seconds)} of training", highlight=False)
            return 0
        try:
            with RunsTable(todo.store, todo.missing, console) as table, LivePage(todo) as page:
                if todo.missing:
                    console.print(f"so far: {page.path}", markup=False, highlight=False)
                results = carry_out(todo, self.execution, table.finished)
        except (KeyboardInterrupt, RunsFailedError) as stop:
            self._show_partial(console, todo, written=isinstance(stop, RunsFailedError))
            raise
        self._finish(console, results, todo)
        return 0

    def _finish(self, console: Console, results: Results, todo: Plan) -> None:
        """Write the report, unless the folder has become another comparison's."""
        from undying.report.terminal import print_summary

        if todo.store.is_of(todo.settings):
            _report(console, results, self.out)
            return
        print_summary(results, None, console)
        console.print(
            f"another comparison has begun in {self.out} meanwhile, so the report there is that one's; to have this one in its place, "
            "run the same command again: its runs are kept",
            markup=False,
            highlight=False,
        )

    def _show_partial(self, console: Console, todo: Plan, written: bool) -> None:
        """What is finished of a comparison that ends early; why it does is the caller's to say."""
        from undying.lab.collect import analyze
        from undying.report.terminal import print_summary

        try:
            todo.finished.look()
            results = analyze(todo, partial=True)
        except UndyingError:  # nothing is finished
            return
        if written:
            self._finish(console, results, todo)
        else:
            print_summary(results, None, console)
            console.print(f"'undying report {self.out}' writes the report of these", markup=False, highlight=False)


@dataclass(frozen=True)
class ReportCommand:
    """Write the report of a comparison again, without training.

    An unfinished comparison gets a report of its finished runs. Several comparisons get one page: a table over all of
    them, and a section for each.
    """

    outs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders that 'undying compare' wrote; default: undying-compare. With --from the one folder to write the report to;
    default: beside the first file, named after it with -report."""
    page: Path | None = None
    """File for the page of several comparisons; default: undying-report.html."""
    scores: Annotated[tuple[Path, ...], tyro.conf.arg(name="from")] = ()
    """Report runs that others trained, from these: CSV files with the columns arm, seed, metric, value and, for curves, step;
    CSV files of W&B; folders of TensorBoard's runs."""
    latex: Path | None = None
    """Also write the main table to this file, for LaTeX with booktabs."""
    figures: tuple[str, ...] = ("svg",)
    """Formats of the files in figures: some of svg, pdf and png."""
    reading: Annotated[Reading, tyro.conf.arg(name="")] = field(default_factory=Reading)

    def __call__(self, console: Console) -> int:
        for name in self.figures:
            one_of("figures", name, ("svg", "pdf", "png"))
        if self.scores:
            return self._imported(console)
        if self.reading != Reading():
            raise UndyingError(f"{self.reading.given()[0]} goes with --from, which names files of scores")
        return self._compared(console)

    def _imported(self, console: Console) -> int:
        from undying.scores import read_scores

        if self.page is not None or len(self.outs) > 1:
            raise UndyingError("--from writes one report into one folder; name that folder, and leave out --page")
        out = self.outs[0] if self.outs else beside(self.scores[0])
        if (out / "sweep.json").exists():
            raise UndyingError(f"{out} is the folder of a comparison, whose report this would replace; name another")
        results = read_scores(self.scores, self.reading, out)
        said = [
            f"{metric.title} ({'higher' if metric.higher_is_better else 'lower'} is better)"
            for metric in results.metrics
        ]
        console.print(f"metrics: {', '.join(said)}", markup=False, highlight=False)
        _report(console, results, out, self.figures)
        self._latex(results)
        return 0

    def _latex(self, results: Results) -> None:
        from undying.report.latex import latex_table

        if self.latex is not None:
            write_or_say(self.latex, latex_table(results))

    def _compared(self, console: Console) -> int:
        from undying.lab.collect import collect
        from undying.lab.store import Store
        from undying.report.overview import overview
        from undying.report.terminal import print_overview

        stores = [Store(out) for out in self.outs or (_OUT,)]
        comparisons = [(store.out, collect(store, store.settings(), partial=True)) for store in stores]
        if len(comparisons) == 1 and self.page is None:
            [(out, results)] = comparisons
            _report(console, results, out, self.figures)
            self._latex(results)
            return 0
        if self.latex is not None or self.figures != ("svg",):
            raise UndyingError(
                "--latex and --figures are of one comparison; give them with a single folder and no --page"
            )
        page = self.page or Path("undying-report.html")
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UndyingError(f"cannot write {page}: {error.strerror}") from None
        write_or_say(page, overview(comparisons))
        print_overview(comparisons, page, console)
        return 0


def beside(path: Path) -> Path:
    """The folder of a report on a file.

    >>> beside(Path("runs/scores.csv")).as_posix()
    'runs/scores-report'
    """
    whole = path.resolve() if path.name in ("", "..") else path
    return whole.with_name(f"{whole.name.removesuffix('.csv')}-report")


def _print_plan(console: Console, todo: Plan, workers: int) -> None:
    from undying.lab.power import power

    settings = todo.settings
    points = f" x {len(settings.points)} points of a grid" if settings.grid else ""
    console.print(
        f"{settings.model} on {todo.data['name']}: {len(settings.activations)} activations x {settings.seeds} seeds{points} "
        f"= {len(todo.runs)} runs of {settings.epochs} epoch{'s' * (settings.epochs > 1)}, {len(todo.finished)} finished, {workers} at a time, in {todo.store.out}",
        markup=False,
        highlight=False,
    )
    console.print("activations: " + ", ".join(settings.activations), markup=False, highlight=False)
    if settings.grid:
        console.print(
            f"each at its own best of {'; '.join(settings.grid)}, by {settings.validation:g} of the training data held out",
            markup=False,
            highlight=False,
        )
    for said in power(todo):
        console.print(said, markup=False, highlight=False)


def _report(console: Console, results: Results, out: Path, formats: Sequence[str] = ("svg",)) -> None:
    from undying.report.terminal import print_summary
    from undying.report.write import write_report

    try:
        page = write_report(results, out, formats)
    except OSError as error:
        again = results.command if results.imported else f"undying report {out}"
        raise UndyingError(
            f"cannot write the report to {out}: {error.strerror}; make room or mend the folder, then '{again}'"
        ) from None
    print_summary(results, page, console)
