"""What the pages show runs as written."""

import multiprocessing
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from undying import cli
from undying.lab import comparison
from undying.lab.runs.kind import Epoch
from undying.papers.tables import TABLES, TIMED

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
# The blocks of a page follow on each other.
PYTHON = [
    (name, "\n".join(blocks))
    for name, text in TEXTS.items()
    if (blocks := re.findall(r"```python\n(.*?)```", text, re.DOTALL))
]
COMMANDS = [
    (name, line.split("#")[0].strip())
    for name, text in TEXTS.items()
    for line in re.findall(r"^ {4}(undying .*)$", text, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[name for name, _ in PYTHON])
def test_python_blocks_run(page, code, tmp_path, monkeypatch):
    """Each page in a process of its own, forked from one that has imported undying already."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "block.py"
    script.write_text(code)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=run_as_script, args=(str(script), "errors"))
    process.start()
    process.join()
    assert process.exitcode == 0, Path("errors").read_text()


def run_as_script(script, errors):
    """As ``python script`` does, with what it prints to standard error in a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_path(script, run_name="__main__")


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_commands_are_accepted(page, command, tmp_path, monkeypatch, capsys):
    """Runs what is cheap as it stands; a longer comparison only as far as its plan, a bench or report for its arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    users_files(tmp_path)
    # How long a plan takes is asked, but not by training three epochs of it.
    monkeypatch.setattr(comparison, "_third_epoch", lambda group, execution: Epoch({"seconds": 1.0}, None))
    words = shlex.split(command)[1:]
    if words[0] == "compare" and "--out try" in command:
        assert cli.main(words) == 0
        assert "report: " in capsys.readouterr().out
    elif words[0] == "compare":
        assert cli.main([*words, "--dry-run"]) == 0
        assert "estimated time" in capsys.readouterr().out
    elif words == ["doctor"] or (words[0] == "audit" and words[1].startswith(("torchvision:", "mine:"))):
        assert cli.main(words) == 0
    elif words[0] == "audit":
        assert cli.main(words) == 2  # the page's own package is not here
        assert "mypackage" in capsys.readouterr().err
    elif words[0] in ("census", "prune"):
        assert cli.main(words) == 0
    elif words[:2] in (["bench", "census"], ["bench", "policies"]):
        assert cli.main([*words, "--models", "nothing"]) == 2
        assert "--models must be some of" in capsys.readouterr().err
    elif words[0] == "reproduce" and "--run" in words:
        assert cli.main([*at_smoke_scale(words), "--dry-run"]) == 2  # the run is one of another scale
        assert "is no run of" in capsys.readouterr().err
    elif words[0] == "reproduce" and "--recorded" in words:
        assert cli.main([*at_smoke_scale(words), "--dry-run"]) == 2  # the reader has the file
        assert "cannot read" in capsys.readouterr().err
    elif words[0] == "reproduce":
        assert cli.main([*at_smoke_scale(words), "--dry-run"]) == 0
    elif words[0] == "bench":
        assert cli.main([*words, "--forms", "no such form"]) == 2  # what it says once all arguments are accepted
        assert "unknown --forms" in capsys.readouterr().err
    elif words[0] == "report" and "--from" in words:
        assert cli.main(words) == 2  # the reader has the file
        assert "is not there" in capsys.readouterr().err
    else:
        assert words[0] in ("report", "runs")
        assert cli.main(words) == 2  # nothing is there in an empty folder
        assert "holds no comparison" in capsys.readouterr().err


def at_smoke_scale(words):
    """The same command at the scale that needs no data."""
    if "--scale" in words:
        del words[words.index("--scale") : words.index("--scale") + 2]
    return [*words, "--scale", "smoke"]


def users_files(folder):
    """What the pages on comparing have the reader write, and data as small as they can be."""
    blocks = re.findall(r"```python\n(.*?)```", TEXTS["docs/compare.md"], re.DOTALL)
    pages = TEXTS["docs/tasks.md"] + TEXTS["docs/sparse-autoencoders.md"]
    named = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", pages, re.DOTALL)
    own = next(block for block in blocks if "acts.py" in block).split('"""')[1]
    for name, code in [("acts", own), ("mine", next(block for block in blocks if "def net" in block)), *named]:
        (folder / f"{name}.py").write_text(code)
        sys.modules.pop(name, None)
    runpy.run_path(str(folder / "make_csv.py"))
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8), np.arange(20) % 10
    np.savez(folder / "cifar10.npz", x_train=x, y_train=y, x_test=x, y_test=y)


LINKS = [
    (name, target)
    for name, text in TEXTS.items()
    for target in re.findall(r"\]\((?!http)([^)]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
]


def test_links_between_pages_lead_somewhere():
    for name, target in LINKS:
        path, _, heading = target.partition("#")
        page = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        assert page.exists(), f"{name} links to {path}"
        assert not heading or heading in anchors(page.read_text(encoding="utf-8")), f"{name} links to {target}"
    assert sum("#" in target for _, target in LINKS) > 20  # else the pattern has lost them


def anchors(text):
    """As GitHub names headings: words without punctuation, and a number where a heading comes again."""
    names = []
    for title in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower()).replace(" ", "-")
        again = sum(other == name or re.fullmatch(rf"{re.escape(name)}-\d+", other) is not None for other in names)
        names.append(f"{name}-{again}" if again else name)
    return names


OVERVIEW = re.findall(r"^\| (.*) \| \[(.*)\]\((.*)\.md\) \| (.*) \|$", TEXTS["docs/results/README.md"], re.MULTILINE)


@pytest.mark.parametrize(("claim", "where", "name", "rest"), OVERVIEW, ids=[f"{row[0]}, {row[1]}" for row in OVERVIEW])
def test_a_row_of_the_overview_is_one_of_its_page(claim, where, name, rest):
    """And what is said of own best rates is the row that follows there."""
    published, ours, verdict, own = cells(rest)
    lines = TEXTS[f"docs/results/{name}.md"].splitlines()
    rows = [[short(cell) for cell in cells(line)] for line in lines if line.startswith("| ")]
    if name in TIMED:
        form, part = re.fullmatch(r"(`.*`), (.*): less than 1.11 % over `nn.ReLU`", claim).groups()
        assert [form, "`nn.ReLU`", part, published, ours, where, short(verdict)] in rows
        return
    [place] = [i for i, row in enumerate(rows) if row[:2] == [claim, where.split(", ")[0]]]
    assert [*rows[place][2:4], rows[place][5]] == [published, ours, short(verdict)]
    following = rows[place + 1]
    tuned = "own best rate" in following[0] and following[3] != "–"
    assert own == (f"{following[3]}, {following[5]}" if tuned else "")
    data = where.partition(", ")[2]
    assert not data or f" on {data.replace('-', '').lower()}, small scale" in TEXTS[f"docs/results/{name}.md"]


def test_every_claim_with_a_published_number_is_in_the_overview():
    """Of each table that has a page."""
    there = {(name, claim, where.split(", ")[0]) for claim, where, name, _ in OVERVIEW}
    shown = {name: table for name, table in TABLES.items() if f"docs/results/{name}.md" in TEXTS}
    for name, table in shown.items():
        for claim in table.claims:
            published = table.difference(claim) is not None or claim.published
            if published and not claim.own_rates and "(ours)" not in claim.text:
                assert (name, claim.text, claim.task) in there
    assert {name for name, *_ in there} == {*shown, *TIMED}


def cells(row):
    return [cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")]


def short(cell):
    """As the overview has it: without interval, unit and scale."""
    return re.sub(r" \(.* to .*\)| points|, no number|^no number$| at this scale|\*\*", "", cell)


def test_make_targets_named_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in TEXTS.values():
        for target in re.findall(r"^ {4}make ([\w-]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
