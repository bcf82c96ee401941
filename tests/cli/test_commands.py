"""The command line as a whole: it knows every command and imports only the one that is asked for."""

import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import requires
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch

import undying
from undying import cli
from undying.cli import COMMANDS, EXTRA

SLOW = ("scipy", "matplotlib", "sklearn", "torchvision", "PIL", "pandas", "jinja2", "torch._dynamo", "triton")
ROOMS = ("undying.bench", "undying.papers", "undying.plots", "undying.report", "undying.statistics.summaries")
HELPS = tuple(f"{name} --help" for name in COMMANDS if name not in ("bench", "reproduce"))
SHOWN = "bench activations --help"
"""It comes last: it imports what it measures."""


#: A machine without a GPU.
ENVIRONMENT = {**{name: None for name in os.environ if name.startswith("TRITON")}, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def commands(fresh):
    """What each command, one after the other, says in 80 columns, and what it has imported by its end beside what ``import
    torch`` does."""
    done = fresh(
        "import json, sys, torch\nbefore = set(sys.modules)\nfrom undying import cli\n"
        f"for words in {('--version', 'doctor', '--help', *HELPS, SHOWN)!r}:\n"
        "    try: status = cli.main(words.split())\n"
        "    except SystemExit as stop: status = stop.code\n"
        "    assert status == 0, words\n"
        "    print('imported', words, json.dumps(sorted(set(sys.modules) - before)), sep='\\t')",
        **ENVIRONMENT,
        COLUMNS="80",
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(.*?)^imported\t(.*?)\t(.*?)$", done.stdout, re.DOTALL | re.MULTILINE)
    return {words: (said, set(json.loads(names))) for said, words, names in found}


@pytest.fixture
def imported(commands):
    return {words: names for words, (_, names) in commands.items()}


def test_version_and_doctor_import_little_beside_torch(imported):
    assert not imported["doctor"] & {*SLOW, *ROOMS, *EXTRA, "undying.lab", "undying.cli.compare"}
    assert "undying.ops" in imported["--version"]


def test_help_lists_every_command_and_imports_none(imported):
    commands = {f"undying.cli.{command.module}" for command in COMMANDS.values()} - {"undying.cli.doctor"}
    assert not imported["--help"] & {*SLOW, *ROOMS, *commands, "undying.lab"}


def test_the_help_of_a_command_needs_no_library_that_it_runs_with(imported):
    assert not imported[HELPS[-1]] & {*SLOW, *ROOMS}
    assert "undying.lab.settings" in imported[HELPS[-1]]


def test_version_and_doctor_work_where_no_extra_is_installed():
    """torch too finds none."""
    program = (
        "import sys, warnings\nwarnings.simplefilter('ignore')\n"
        f"for name in {EXTRA!r}: sys.modules[name] = None\n"
        "from undying.__main__ import main\n"
        "for word in ('--version', 'doctor'):\n    sys.argv = ['undying', word]\n    assert main() == 0"
    )
    environment = {name: value for name, value in {**os.environ, **ENVIRONMENT}.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == f"undying {undying.__version__}"
    assert said[1] == f"torch           {torch.__version__}, {torch.get_num_threads()} threads"
    there = "Triton is installed; they are not for cpu" if find_spec("triton") else "missing: they do not import"
    assert said[3].startswith(f"Triton kernels  {there}")


def test_the_extra_is_what_the_package_says():
    named = [
        re.match(r"[\w-]+", line).group() for line in requires("undying") if re.search(r"""extra == ["']lab""", line)
    ]
    modules = {"scikit-learn": "sklearn", "markdown-it-py": "markdown_it"}
    assert sorted(EXTRA) == sorted(modules.get(name, name) for name in named)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_where_its_own_help_begins(name):
    command = COMMANDS[name]
    own = inspect.getdoc(getattr(import_module(f"undying.cli.{command.module}"), command.name))
    assert own.split("\n\n")[0] == command.says


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_has_a_line_for_each(flag, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        cli.main([flag])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80  # the first is the usage
    shown = " ".join(" ".join(line.strip("│ ") for line in lines).split())
    for name, command in COMMANDS.items():
        assert f"• {name} {command.says}" in shown
    assert "--version" in shown


@pytest.mark.parametrize("words", ["compare", "report", "census", "bench activations"])
def test_help_says_each_option_in_one_paragraph_and_no_empty_default(words, commands):
    said, _ = commands[f"{words} --help"]
    assert "(default: )" not in said
    assert not re.search(r"\(default: (None|True|False|'')\)|\{None\}", said)
    inside = [line[1:-1] for line in said.splitlines() if line.startswith("│")]
    assert len(inside) > 10
    for line, below in pairwise(inside):
        indent = len(below) - len(below.lstrip())
        begins = re.match(r" +(-|STR|PATH|\[|•|\()", line)
        if indent > 8 and not re.match(r" -", below) and not begins:  # the same paragraph
            room = len(line) - len(line.rstrip()) - 1
            assert len(below.split()[0]) >= room, (line, below)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["name a command"]),
        (["train"], ["'train'"]),
        (["cmpare", "--help"], ["'cmpare'", "did you mean 'compare'?"]),
        (["--verison"], ["'--verison'"]),
    ],
)
def test_what_is_no_command_is_one_line_with_those_there_are(arguments, words, capsys):
    assert cli.main(arguments) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in (*words, *COMMANDS)), errors
