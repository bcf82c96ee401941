"""What there is to check and to measure on a GPU, in at most eight minutes: python tests/gpu_check.py [--dry] [OPTION ...]

It needs no network and no package index. It runs with the torch that is there (2.10 or newer) and, of the rest, what is
installed or lies as wheels in --wheels; a step whose modules are missing is not run, and says so. Each step (gpu_steps.py) is a
process of its own with its share of the time: one that fails, crashes or hangs does not stop the others. --out then has
gpu-check.json, gpu-check.md and the pages of the steps, and what they work with in its folder work. A bit of the exit status stands for each step that failed, the first
for the first: 5 is operators and census.

--dry does the same at tiny size on the CPU, and names what only a GPU can show.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
LIMIT = 480
"""Seconds, for everything."""
START = 15
"""Of which to start with and to end with: before the first step, and for a step that was told to stop."""


@dataclass(frozen=True)
class Step:
    """One process of the check."""

    name: str
    what: str
    share: int
    """Of the time, in parts of the sum over all steps. What a step leaves over is shared by those after it."""
    needs: tuple[str, ...] = ()
    """Modules, beside torch, without which it cannot run."""
    open_ended: bool = False
    """It goes on until its time is over, and resumes from there in the same --out."""


STEPS = (
    Step(
        "operators",
        "the transform table, and Triton's operators, against closed forms",
        80,
        ("pytest", "mpmath", "numpy"),
    ),
    Step("activations", "activations beside nn.ReLU, float32 and bfloat16", 60, ("tyro", "torchvision", "sklearn")),
    Step("census", "census and watch beside the same without", 50, ("torchvision", "sklearn")),
    Step("memory", "bytes kept for the backward pass, and lean's", 20, ("torchvision", "sklearn")),
    Step("throughput", "a training step of ResNet-18, as it is and replayed", 60, ("torchvision", "sklearn", "numpy")),
    Step(
        "training",
        "sugar-cifar10 at full scale: the main arms of ResNet-18, 5 seeds",
        180,
        ("torchvision", "sklearn", "scipy", "matplotlib", "jinja2"),
        open_ended=True,
    ),
)


@dataclass
class Outcome:
    """What became of a step."""

    name: str
    status: str
    """``done``, ``time is up`` (of an open-ended one), ``failed: ...`` or ``not run: ...``."""
    seconds: float = 0.0
    allotted: float = 0.0
    parts: list[dict[str, str]] = field(default_factory=list)
    """``name``, ``status`` and ``note`` of each."""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status.startswith("failed")


def carry_out(
    steps: Sequence[Step],
    command: Callable[[Step, float], Sequence[str]],
    out: Path,
    limit: float,
    say: Callable[[str], object] = print,
) -> list[Outcome]:
    """Every step in turn, within ``limit`` seconds.

    Args:
        steps: what to do.
        command: gives the command line of a step that has so many seconds; it is to write OUT/NAME.json.
        out: a folder.
        limit: for all of it.
        say: given a line before and after each.
    """
    ends, outcomes = time.monotonic() + limit - START, []
    for number, step in enumerate(steps):
        seconds = (ends - time.monotonic()) * step.share / sum(later.share for later in steps[number:])
        missing = [name for name in step.needs if importlib.util.find_spec(name) is None]
        if missing:
            outcomes.append(Outcome(step.name, f"not run: {', '.join(missing)} is not there"))
        elif seconds <= 0:
            outcomes.append(Outcome(step.name, "failed: no time was left for it"))
        else:
            say(f"{step.name}: {step.what}; {seconds:.0f} s at most")
            outcomes.append(_carry_out(step, command(step, seconds), out / f"{step.name}.json", seconds))
        say(f"{step.name}: {outcomes[-1].status}")
    return outcomes


def _carry_out(step: Step, command: Sequence[str], written: Path, seconds: float) -> Outcome:
    written.unlink(missing_ok=True)
    begun = time.monotonic()
    log = written.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            process.send_signal(signal.SIGINT)  # as Ctrl-C: what is there is written
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(START)
        finally:
            _end(process)
    found = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    parts, numbers = found.get("parts", []), found.get("numbers", {})
    wrong = [part["name"] for part in parts if part["status"] == "wrong"]
    if wrong:
        status = f"failed: {', '.join(wrong)}"
    elif code is None:
        status = "time is up" if step.open_ended and parts else "failed: time is up"
    elif code != 0:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
        status = f"failed: exit status {code}: {last[0][:300]}"
    else:
        status = "done" if parts else "failed: it did nothing"
    return Outcome(step.name, status, time.monotonic() - begun, seconds, parts, numbers)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def failures(steps: Sequence[Step], outcomes: Sequence[Outcome]) -> int:
    """A bit a step that failed.

    >>> failures(STEPS[:3], [Outcome("operators", "failed: x"), Outcome("activations", "done"), Outcome("census", "failed: y")])
    5
    """
    failed = {outcome.name for outcome in outcomes if outcome.failed}
    return sum(1 << number for number, step in enumerate(steps) if step.name in failed)


def summary(
    steps: Sequence[Step], outcomes: Sequence[Outcome], machine: Mapping[str, str], dry: bool, limit: float
) -> str:
    """A page."""
    what = {step.name: step.what for step in steps}
    lines = [
        f"# GPU check{', dry: on the CPU, tiny' if dry else ''}",
        "",
        f"Limit: {limit:g} s. {'; '.join(f'{name}: {value}' for name, value in machine.items())}.",
        "",
        "| step | what | status | seconds, of |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {o.name} | {what[o.name]} | {_cell(o.status)} | {o.seconds:.0f}, {o.allotted:.0f} |" for o in outcomes
    ]
    for o in outcomes:
        if o.parts:
            lines += ["", f"## {o.name}", "", "| part | status | note |", "| --- | --- | --- |"]
            lines += [f"| {part['name']} | {part['status']} | {_cell(part['note'])} |" for part in o.parts]
    constants = next((o.numbers["forecast"] for o in outcomes if "forecast" in o.numbers), None)
    if constants:
        where = (
            "Measured, to be put into `src/undying/papers/forecast.py`"
            if not dry
            else "Of this CPU, to see that it works"
        )
        lines += ["", f"{where}:", "", *(f"    {name} = {value:.3g}" for name, value in constants.items())]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def unpack(wheels: Path, into: Path) -> None:
    """Wheels are archives of what belongs on the path. What is installed goes before them."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gpu_check.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for what it writes (gpu-check)")
    parser.add_argument("--seconds", type=float, help=f"limit for everything ({LIMIT}; dry: an hour)")
    parser.add_argument("--wheels", type=Path, default=Path("gpu-wheels"), help="folder of carried wheels (gpu-wheels)")
    parser.add_argument("--data-root", type=Path, help="folder of CIFAR-10, as undying has it")
    parser.add_argument("--steps", nargs="+", choices=[step.name for step in STEPS], help="only these")
    parser.add_argument(
        "--only", choices=[step.name for step in STEPS], help=argparse.SUPPRESS
    )  # the process of a step
    given = parser.parse_args(arguments)
    work = given.out / "work"
    site = work / "site"
    sys.path[1:1] = [str(HERE.parents[1] / "src")]
    sys.path.append(str(site))
    if given.only:
        import gpu_steps

        return gpu_steps.run(given.only, given.out, dry=given.dry, seconds=given.seconds, data_root=given.data_root)
    site.mkdir(parents=True, exist_ok=True)
    (work / ".gitignore").write_text("*\n", encoding="utf-8")
    limit = given.seconds or (3600 if given.dry else LIMIT)
    unpack(given.wheels, site)
    importlib.invalidate_caches()

    def command(step: Step, seconds: float) -> list[str]:
        words = [sys.executable, str(HERE), "--only", step.name, "--out", str(given.out), "--seconds", f"{seconds:.1f}"]
        words += ["--dry"] if given.dry else []
        return words + (["--data-root", str(given.data_root)] if given.data_root else [])

    import torch

    if not given.dry and not torch.cuda.is_available():
        print("there is no GPU that torch can use here; --dry runs on the CPU", file=sys.stderr)
        return 2
    machine = {"torch": torch.__version__, "GPU": "none used" if given.dry else torch.cuda.get_device_name()}
    steps = [step for step in STEPS if not given.steps or step.name in given.steps]
    outcomes = carry_out(steps, command, work, limit)
    content = {"dry": given.dry, "limit": limit, "machine": machine, "steps": [asdict(o) for o in outcomes]}
    (given.out / "gpu-check.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page = given.out / "gpu-check.md"
    page.write_text(summary(steps, outcomes, machine, given.dry, limit), encoding="utf-8")
    print(f"page: {page}")
    return failures(STEPS, outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
