"""What the pages show runs as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from undying import cli

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
    """Runs what is cheap as it stands; a comparison only as far as its plan, and a report for its arguments."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    if words[0] == "compare":
        assert cli.main([*words, "--dry-run"]) == 0
        assert "estimated time" in capsys.readouterr().out
    elif words == ["doctor"] or (words[0] == "audit" and words[1].startswith("torchvision:")):
        assert cli.main(words) == 0
    elif words[0] == "audit":
        assert cli.main(words) == 2  # the page's own package is not here
        assert "mypackage" in capsys.readouterr().err
    else:
        assert words[0] == "report"
        assert cli.main(words) == 2  # nothing to report in an empty folder
        assert "holds no comparison" in capsys.readouterr().err


def test_links_between_pages_lead_somewhere():
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name} links to {target}"


def test_make_targets_named_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in TEXTS.values():
        for target in re.findall(r"^ {4}make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
