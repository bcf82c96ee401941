"""The commands. Exit status: 0 success, 2 a mistake the user can mend, 130 interrupted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from undying.activations.twins import TWINS
from undying.errors import UndyingError
from undying.lab.collect import collect
from undying.lab.compare import Plan, compare, estimate_seconds, plan
from undying.lab.executors import default_workers
from undying.lab.models import load_model
from undying.lab.results import Results
from undying.lab.settings import RunConfig, Settings
from undying.lab.store import Store
from undying.ops import paths
from undying.report.terminal import print_summary
from undying.report.write import write_report
from undying.treat.convert import audit

_OUT = Path("undying-compare")
_TARGETS = {kind.__name__: kind for kind in TWINS}


@dataclass(frozen=True)
class CompareCommand:
    """Train the same network with several activations and seeds, and report what changed.

    Needs nothing but the package by default. Stopped or killed, the same command goes on where it was.
    """

    settings: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)
    workers: int = field(default_factory=default_workers)
    """Runs at a time, one core each."""
    out: Path = _OUT
    """Folder for the runs and the report; finished runs in it are kept and used."""
    dry_run: bool = False
    """Print the plan and the estimated time, and do nothing."""

    def __call__(self, console: Console) -> None:
        if self.workers < 1:
            raise UndyingError(f"--workers must be at least 1, not {self.workers}")
        todo = plan(self.settings, self.out)
        _print_plan(console, self.settings, todo, self.out, self.workers)
        if self.dry_run:
            seconds = estimate_seconds(todo, self.workers)
            console.print(f"estimated time: {_duration(seconds)}", highlight=False)
            return
        with _progress(console) as progress:
            task = progress.add_task("training", total=len(todo.missing))

            def finished(config: RunConfig) -> None:
                progress.update(task, advance=1, description=f"{config.activation}, seed {config.seed}")

            results = compare(self.settings, self.out, self.workers, finished)
        _report(console, results, self.out)


@dataclass(frozen=True)
class ReportCommand:
    """Write the report of a finished comparison again, without training."""

    out: Annotated[Path, tyro.conf.Positional] = _OUT
    """Folder that 'undying compare' wrote."""

    def __call__(self, console: Console) -> None:
        store = Store(self.out)
        _report(console, collect(store, store.settings()), self.out)


@dataclass(frozen=True)
class AuditCommand:
    """Show where a network holds or calls its activations, and what convert_ would leave alone."""

    model: tyro.conf.Positional[str]
    """torchvision:NAME, timm:NAME or package.module:function (of no arguments, giving the network)."""
    example: tuple[str, ...] = ()
    """Shape of each input, with :dtype where it is not float32: 1,3,224,224 or 1,16:int64. Without it calls in a forward
    are not found; torchvision's and timm's networks get 1,3,224,224."""
    targets: tuple[str, ...] = ("ReLU",)
    """Types of torch.nn to look for, such as ReLU, GELU, SiLU."""

    def __call__(self, console: Console) -> None:
        unknown = [name for name in self.targets if name not in _TARGETS]
        if unknown:
            raise UndyingError(f"unknown --targets {', '.join(unknown)}; known: {', '.join(_TARGETS)}")
        shapes = self.example or (("1,3,224,224",) if self.model.startswith(("torchvision:", "timm:")) else ())
        example = tuple(_example(shape) for shape in shapes) or None
        report = audit(load_model(self.model), example, [_TARGETS[name] for name in self.targets])
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)
        calls = sum(row.calls or 0 for row in report.rows if row.alias_of is None)
        counted = (
            f", {calls} calls in a forward pass"
            if example
            else "; no --example, so calls in a forward were not looked for"
        )
        console.print(f"{len(report.rows)} sites{counted}; {len(report.left)} would be left alone", highlight=False)


@dataclass(frozen=True)
class DoctorCommand:
    """Show how activations are computed here, and why."""

    def __call__(self, console: Console) -> None:
        for name, value in paths.report().items():
            console.print(f"{name:<16}{value}", markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        command: CompareCommand | ReportCommand | AuditCommand | DoctorCommand = tyro.extras.subcommand_cli_from_dict(
            {"compare": CompareCommand, "report": ReportCommand, "audit": AuditCommand, "doctor": DoctorCommand},
            prog="undying",
            description="Find dead ReLU units, bring them back, prove whether it helped.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        command(Console())
    except UndyingError as error:
        print(f"undying: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("undying: stopped; finished runs are kept: give the same command to go on", file=sys.stderr)
        return 130
    return 0


def _example(spec: str) -> torch.Tensor:
    shape, _, name = spec.partition(":")
    dtype = getattr(torch, name or "float32", None)
    try:
        sizes = [int(size) for size in shape.split(",")]
    except ValueError:
        sizes = []
    if not isinstance(dtype, torch.dtype) or not sizes or min(sizes) < 0:
        raise UndyingError(f"--example {spec!r} must be a shape such as 1,3,224,224 or, with a dtype, 1,16:int64")
    return torch.rand(sizes).to(dtype)


def _print_plan(console: Console, settings: Settings, todo: Plan, out: Path, workers: int) -> None:
    done = len(todo.runs) - len(todo.missing)
    console.print(
        f"{settings.model} on {settings.data}: {len(settings.activations)} activations x {settings.seeds} seeds "
        f"= {len(todo.runs)} runs of {settings.epochs} epochs, {done} finished, {workers} at a time, in {out}",
        markup=False,
        highlight=False,
    )
    console.print("activations: " + ", ".join(settings.activations), markup=False, highlight=False)


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("runs, elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _report(console: Console, results: Results, out: Path) -> None:
    try:
        page = write_report(results, out)
    except OSError as error:
        raise UndyingError(
            f"cannot write the report to {out}: {error.strerror}; make room or mend the folder, then 'undying report {out}'"
        ) from None
    print_summary(results, page, console)
