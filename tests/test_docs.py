"""What the pages show runs as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from undying import cli
from undying.lab.reproduce.tables import TABLES, TIMED

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
def test_python_blocks_run(page, code, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_commands_are_accepted(page, command, tmp_path, monkeypatch, capsys):
    """Runs what is cheap as it stands; a longer comparison only as far as its plan, a bench or report for its arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    users_files(tmp_path)
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
    elif words[0] == "census":
        assert cli.main(words) == 0
    elif words[:2] == ["bench", "census"]:
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
    """What the page on comparing has the reader write, and data as small as they can be."""
    blocks = re.findall(r"```python\n(.*?)```", TEXTS["docs/compare.md"], re.DOTALL)
    (folder / "mine.py").write_text(next(block for block in blocks if "def net" in block))
    sys.modules.pop("mine", None)
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8), np.arange(20) % 10
    np.savez(folder / "cifar10.npz", x_train=x, y_train=y, x_test=x, y_test=y)


def test_links_between_pages_lead_somewhere():
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name} links to {target}"


def test_verdicts_in_the_overview_are_those_of_the_pages():
    """A row has a claim's own row of the page in it, and that of the same claim at own best rates, which follows there."""
    results = ROOT / "docs" / "results"
    overview = (results / "README.md").read_text()
    seen = set()
    for row in re.findall(r"^\| (.*\*\*.*) \|$", overview, re.MULTILINE):
        link, *said = cells(row)
        page, where = re.fullmatch(r"\[.*\]\((.*)\), (.*)", link).groups()
        seen.add(page)
        rows = [cells(line) for line in (results / page).read_text().splitlines() if line.startswith("| ")]
        if page in {f"{name}.md" for name in TIMED}:
            assert [*said[:-1], where, said[-1]] in rows, f"{page} has no such row: {row}"
            continue
        claim, published, ours, verdict, *own = said
        place = rows.index([claim, where, published, *found(ours), verdict])
        if any(own):
            following = rows[place + 1]
            assert "own best rate" in following[0]
            assert following[3:] == [*found(own[0]), own[1]]
    names = (*TABLES, *TIMED)
    assert seen == {f"{name}.md" for name in names if (results / f"{name}.md").exists()}
    for name in names:
        assert name in overview


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def found(cell):
    """The difference and the number of pairs in a cell of the overview."""
    return cell.rsplit(", ", 1) if "," in cell else [cell, "0"]


def test_make_targets_named_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in TEXTS.values():
        for target in re.findall(r"^ {4}make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
