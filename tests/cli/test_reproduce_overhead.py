"""``undying reproduce barelu-overhead`` from end to end."""

import json
import re

import pytest

from undying import cli
from undying.papers.tables import TIMED

NAME = "barelu-overhead"


def test_it_runs_at_smoke_scale_and_writes_the_page_again(tmp_path, capsys):
    command = ["reproduce", NAME, "--scale", "smoke", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert f"page: {tmp_path / NAME}.md" in capsys.readouterr().out
    text = (tmp_path / f"{NAME}.md").read_text()
    assert text.startswith(f"# {NAME}: smoke scale\n")
    assert "**supported**" not in text
    assert "no claim is judged" in text
    for part in ("Forward, smoke", "Forward + backward, smoke", "Training step, smoke"):
        assert f"## {part} scale" in text
    stored = json.loads((tmp_path / f"{NAME}.json").read_text())
    for case in stored["cases"]:
        assert set(TIMED[NAME].forms) <= set(case["ratios"])
        assert all(seconds > 0 for seconds in case["seconds"].values())
        assert case["ratios"]["nn.ReLU"]["nn.ReLU"]["median"] == 1
        cell = case["ratios"]["literal BAReLU"]["nn.ReLU"]
        assert f"{cell['median']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})" in text
    [file] = re.findall(r"\]\((.*svg)\)", text)
    assert "smoke scale" in (tmp_path / file).read_text()
    (tmp_path / f"{NAME}.md").unlink()
    assert cli.main([*command, "--page-only"]) == 0
    assert (tmp_path / f"{NAME}.md").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "3"], ["--seeds", NAME]),
        (["--page-only", "--out", "nowhere"], ["nowhere", "--page-only"]),
        (["--page-only", "--out", "/dev/null/x"], ["/dev/null/x"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(arguments, words, capsys):
    assert cli.main(["reproduce", NAME, "--scale", "smoke", *arguments]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in words), errors


def test_a_dry_run_times_nothing(tmp_path, capsys):
    assert cli.main(["reproduce", NAME, "--scale", "small", "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    assert "min or more" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
