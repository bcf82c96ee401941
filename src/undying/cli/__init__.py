"""The commands, a module each. Exit status: 0 success, 1 a finding, 2 a mistake the user can mend, 130 interrupted."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from undying._base.errors import UndyingError
from undying.cli.audit import AuditCommand
from undying.cli.bench import BenchCommand
from undying.cli.census import CensusCommand
from undying.cli.compare import CompareCommand, ReportCommand
from undying.cli.doctor import DoctorCommand
from undying.cli.reproduce import ReproduceCommand
from undying.cli.runs import RunsCommand

Command = (
    CompareCommand
    | ReportCommand
    | RunsCommand
    | ReproduceCommand
    | AuditCommand
    | CensusCommand
    | BenchCommand
    | DoctorCommand
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        command: Command = tyro.extras.subcommand_cli_from_dict(
            {
                "compare": CompareCommand,
                "report": ReportCommand,
                "runs": RunsCommand,
                "reproduce": ReproduceCommand,
                "census": CensusCommand,
                "audit": AuditCommand,
                "bench": BenchCommand,
                "doctor": DoctorCommand,
            },
            prog="undying",
            description="Find dead ReLU units, bring them back, prove whether it helped.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return command(Console())
    except UndyingError as error:
        print(f"undying: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("undying: stopped; finished runs are kept: give the same command to go on", file=sys.stderr)
        return 130
