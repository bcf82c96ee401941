"""The check for GPUs: dry on the CPU from end to end, and what becomes of steps that fail, crash or hang."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from gpu_check import STEPS, Step, carry_out, failures, main, summary, unpack
from gpu_steps import NO_GPU
from gpu_steps import STEPS as FUNCTIONS

SCRIPT = Path(__file__).parent / "gpu_check.py"


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    out = tmp_path_factory.mktemp("dry")
    command = [sys.executable, str(SCRIPT), "--dry", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    logs = "".join(log.read_text() for log in out.glob("work/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return out, json.loads((out / "gpu-check.json").read_text())


def test_dry_every_step_does_its_work(dry):
    out, found = dry
    assert [step["name"] for step in found["steps"]] == [step.name for step in STEPS] == list(FUNCTIONS)
    assert {step["status"] for step in found["steps"]} == {"done"}
    assert not [part for step in found["steps"] for part in step["parts"] if part["status"] == "wrong"]
    numbers = {step["name"]: step["numbers"] for step in found["steps"]}
    assert numbers["training"]["finished"] == numbers["training"]["of"] == 3
    assert all(value > 0 for value in numbers["throughput"]["forecast"].values())
    pages = {path.name for path in out.glob("*.md")}
    assert pages == {"gpu-check.md", "activations.md", "census.md", "memory.md", "sugar-cifar10.md"}
    # The main arms, which at this scale are the same runs of both networks.
    assert "**Unfinished: 6 of 20 runs.**" in (out / "sugar-cifar10.md").read_text()
    assert {row["dtype"] for row in json.loads((out / "activations.json").read_text())["cases"]} == {
        "float32",
        "bfloat16",
    }


def test_dry_what_only_a_gpu_shows_is_named(dry):
    out, found = dry
    not_run = [part["name"] for step in found["steps"] for part in step["parts"] if part["status"] == NO_GPU]
    assert not_run == ["compiled by Inductor", "Triton's operators", "relu, replayed", "sugar, replayed"]
    page = (out / "gpu-check.md").read_text()
    assert page.startswith("# GPU check, dry")
    assert page.count(NO_GPU) == 4
    assert "Of this CPU, to see that it works:\n\n    GPU_FLOPS = " in page


def test_a_wrong_row_fails_its_step(tmp_path, monkeypatch):
    """The operators are looked at, not only called."""
    import undying
    from activations import test_transform_table as table
    from gpu_steps import Findings, Job, operators

    case = next(case for case in table.CASES if case.inductor)
    wrong = type(case)("wrong", lambda: undying.SUGAR("nelu"), case.truth, is_relu=True, inductor=True)
    monkeypatch.setattr(table, "CASES", [wrong])
    job = Job(tmp_path, True, 10.0, None, Findings(tmp_path / "operators.json"))
    operators(job)
    status = {part["name"]: part["status"] for part in json.loads(job.found.path.read_text())["parts"]}
    assert status["value, auto"] == "done"  # both are ReLU forward
    assert status["first_derivative, auto"] == status["dtype_and_layout, composite"] == "wrong"


def planted(**programs):
    """Steps, and the command of each: a program that is given the path of what it is to write."""
    steps = [Step(name, name, 1, open_ended=name.startswith("open")) for name in programs]
    return steps, lambda out: lambda step, seconds: [sys.executable, "-c", programs[step.name], str(out / step.name)]


WRITES = """
import json, sys
json.dump({"parts": [{"name": "a", "status": "STATUS", "note": ""}], "numbers": {"n": 1}}, open(sys.argv[1] + ".json", "w"))
"""
HANGS = """
import time, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=open(sys.argv[1] + ".pid", "w"))
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    steps, command = planted(
        wrong=WRITES.replace("STATUS", "wrong"),
        crashes="import os; os.abort()",
        raises="raise ValueError('no such operator')",
        lazy="",
        right=WRITES.replace("STATUS", "done"),
    )
    outcomes = carry_out(steps, command(tmp_path), tmp_path, 600, lambda _: None)
    status = {outcome.name: outcome.status for outcome in outcomes}
    assert status["wrong"] == "failed: a"
    assert status["crashes"].startswith("failed: exit status -6")
    assert status["raises"] == "failed: exit status 1: ValueError: no such operator"
    assert status["lazy"] == "failed: it did nothing"
    assert status["right"] == "done"
    assert failures(steps, outcomes) == 0b01111
    text = summary(steps, outcomes, {"GPU": "abacus"}, False, 600)
    assert "| raises | raises | failed: exit status 1: ValueError: no such operator |" in text


def test_time_is_divided_and_a_step_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_check.START", 2)
    stops = WRITES.replace("STATUS", "done") + "\nimport time; time.sleep(600)"
    steps, command = planted(hangs=HANGS, open_one=stops, right=WRITES.replace("STATUS", "done"))
    begun = time.monotonic()
    outcomes = carry_out(steps, command(tmp_path), tmp_path, 20, lambda _: None)
    assert time.monotonic() - begun < 20
    assert [o.status for o in outcomes] == ["failed: time is up", "time is up", "done"]
    assert failures(steps, outcomes) == 0b001
    shares = [o.allotted for o in outcomes]
    assert shares[0] == pytest.approx(18 / 3, abs=0.1)
    assert shares[1] == pytest.approx((18 - outcomes[0].seconds) / 2, abs=1)
    child = int((tmp_path / "hangs.pid").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_what_is_not_there_is_said(tmp_path):
    [outcome] = carry_out([Step("a", "a", 1, ("no_such_module", "json"))], lambda *_: [], tmp_path, 60, lambda _: None)
    assert outcome.status == "not run: no_such_module is not there"
    assert not outcome.failed


def test_carried_wheels_come_after_what_is_installed(tmp_path):
    with zipfile.ZipFile(tmp_path / "carried-1-py3-none-any.whl", "w") as archive:
        archive.writestr("carried_module.py", "x = 3")
    unpack(tmp_path, tmp_path / "site")
    assert (tmp_path / "site" / "carried_module.py").read_text() == "x = 3"


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["--out", str(tmp_path)]) == 2
    assert "there is no GPU" in capsys.readouterr().err
