"""The commands, a module each, imported when it is asked for.

Exit status: 0 success, 1 a finding, 2 a mistake the user can mend, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple, Union

from undying._base.errors import UndyingError
from undying._base.text import clean
from undying._version import __version__


class Command(NamedTuple):
    """Where a command is, and what ``undying --help`` says of it: the first sentence of its own help."""

    module: str
    name: str
    says: str


COMMANDS = {
    "compare": Command(
        "compare",
        "CompareCommand",
        "Train one network with several activations and seeds, and report what changed.",
    ),
    "report": Command("compare", "ReportCommand", "Write the report of a comparison again, without training."),
    "runs": Command("runs", "RunsCommand", "List the runs in a folder of 'undying compare', also while it works."),
    "reproduce": Command(
        "reproduce",
        "ReproduceCommand",
        "Run a table of the SUGAR or BAReLU paper, and judge each of its claims.",
    ),
    "census": Command(
        "census",
        "CensusCommand",
        "Count which units of a network fire, and which are silent, dead or dormant.",
    ),
    "prune": Command(
        "prune",
        "PruneCommand",
        "Cut out units that never fire on given data, and write the smaller network.",
    ),
    "audit": Command(
        "audit",
        "AuditCommand",
        "Show where a network has its activations, and what convert_ would leave alone.",
    ),
    "bench": Command(
        "bench",
        "BenchCommand",
        "Measure speed and memory on this machine, beside PyTorch's own activations.",
    ),
    "doctor": Command("doctor", "DoctorCommand", "Show how activations are computed here, and why."),
}

EXTRA = ("jinja2", "markdown_it", "matplotlib", "numpy", "rich", "scipy", "sklearn", "tyro")
"""What the extra ``lab`` installs, by the names that are imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except UndyingError as error:
        return _say(str(error))
    except OSError as error:  # a folder that may not be looked into, a disk that fails
        return _say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None))
    except MemoryError as error:
        return _say(f"out of memory: {error}")
    except KeyboardInterrupt:
        print("undying: stopped; finished runs are kept: run the same command again to resume", file=sys.stderr)
        return 130


def _say(error: str) -> int:
    """Print a mistake as one line, whatever the names in it hold."""
    print("undying:", clean(" ".join(error.split())), file=sys.stderr)
    return 2


def _main(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"undying {__version__}")
        return 0
    if words == ["doctor"]:  # nothing to read from the command line: it works without the extra
        return int(_load("doctor")()())
    name, *rest = words or [""]
    if name not in COMMANDS and name not in ("-h", "--help"):
        near = "".join(f"; did you mean {known!r}?" for known in difflib.get_close_matches(name, COMMANDS, 1))
        problem = f"unknown command {name!r}{near or ';'}" if name else "name a command;"
        raise UndyingError(f"{problem} known: {', '.join(COMMANDS)} (undying --help)")
    if missing := [module for module in EXTRA if find_spec(module) is None]:
        raise UndyingError(f"this needs {', '.join(missing)}, part of an extra: pip install 'undying[lab]'")
    if name == "compare":
        from undying.lab.grid import as_grid

        rest = as_grid(rest)
    if name == "census":
        _refuse_repeated(rest)
    return _run(_load(name), f"undying {name}", rest) if name in COMMANDS else _run(_everything(), "undying", words)


def _load(name: str) -> Any:
    """The class of a command."""
    command = COMMANDS[name]
    return getattr(importlib.import_module(f"undying.cli.{command.module}"), command.name)


def _run(command: Any, prog: str, words: list[str]) -> int:
    import tyro

    from undying.cli.console import SafeConsole

    if prog != "undying" and {"-h", "--help"} & set(words):
        from undying.cli.helptext import describe

        describe(command)
    given = tyro.cli(command, prog=prog, args=words, config=(tyro.conf.FlagCreatePairsOff,))
    return int(given(SafeConsole()))


def _refuse_repeated(words: list[str]) -> None:
    """The last one would count, and a gate would lose the limits before it."""
    options = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    for option in options:
        if options.count(option) > 1:
            raise UndyingError(f"{option} is given twice; give it once, with all its values")


def _everything() -> Any:
    """What ``undying --help`` describes: an empty class stands for each command, so that none is imported."""
    import tyro

    choices = [
        Annotated[make_dataclass(command.name, []), tyro.conf.subcommand(name, description=command.says)]
        for name, command in COMMANDS.items()
    ]
    version = Annotated[bool, tyro.conf.arg(help="Show the version and exit.")]
    everything = make_dataclass(
        "Undying",
        [
            ("command", Annotated[Union[tuple(choices)], tyro.conf.arg(name="", metavar="COMMAND ...")]),  # noqa: UP007
            ("version", version, False),
        ],
    )
    everything.__doc__ = "Find dead ReLU units, bring them back, prove whether it helped."
    return everything
