"""The steps of gpu_check.py, each run in a process of its own.

Nothing here imports what a machine may lack before the step that needs it.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NO_GPU = "not run: no CUDA"


@dataclass
class Findings:
    """What a step has found so far; written anew with each part, so that one that is killed leaves what it had."""

    path: Path
    parts: list[dict[str, str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str, status: str = "done", note: str = "") -> None:
        """``status`` is done, wrong, or says why it was not run."""
        self.parts.append({"name": name, "status": status, "note": note})
        text = json.dumps({"parts": self.parts, "numbers": self.numbers}, indent=1) + "\n"
        beside = self.path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path)

    def judged(self, name: str, wrong: list[str], right: str) -> None:
        self.part(name, "wrong" if wrong else "done", f"{len(wrong)}, the first: {wrong[0][:300]}" if wrong else right)


@dataclass(frozen=True)
class Job:
    """What a step is told."""

    out: Path
    dry: bool
    seconds: float
    data_root: Path | None
    found: Findings

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    def page(self, name: str, page: Any) -> None:
        """A page of the bench, and its figures."""
        (self.out / f"{name}.md").write_text(page.markdown(), encoding="utf-8")
        (self.out / f"{name}.json").write_text(page.json(), encoding="utf-8")


def run(name: str, out: Path, *, dry: bool, seconds: float, data_root: Path | None) -> int:
    """One of ``STEPS``. Ctrl-C ends it, with what it has."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told its children to ignore it
    found = Findings(out / "work" / f"{name}.json")
    try:
        STEPS[name](Job(out, dry, seconds, data_root, found))
    except KeyboardInterrupt:
        return 130
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# Right


def operators(job: Job) -> None:
    import undying
    from activations import test_transform_table as table

    table.DEVICE, table.POINTS = job.device, table.POINTS.to(job.device)
    rows: list[Callable[[Any], None]] = [
        table.test_value,
        table.test_first_derivative,
        table.test_second_derivative,
        table.test_forward_mode_without_gradients,
        table.test_without_gradients,
        table.test_checkpoint,
        table.test_dtype_and_layout,
        table.test_special_values,
        table.test_second_derivative_of_special_values_is_finite,
    ]
    names = [row.__name__.removeprefix("test_") for row in rows]
    cases = [case for case in table.CASES if not job.dry or case.inductor]
    for path in ("auto", "composite"):
        for name, row in zip(names, rows, strict=True):
            with undying.ops.using(path):
                wrong = [said for case in cases if (said := _wrong(row, case))]
            job.found.judged(f"{name}, {path}", wrong, f"{len(cases)} activations")
    if job.dry:
        job.found.part("compiled by Inductor", NO_GPU)
        job.found.part("Triton's operators", NO_GPU)
        return
    _triton(job, table)
    compiled = [said for case in cases if case.inductor and (said := _wrong(lambda c: _compiled(c, table), case))]
    job.found.judged("compiled by Inductor", compiled, "value and derivative")


def _wrong(row: Callable[[Any], None], case: Any) -> str:
    import pytest

    try:
        row(case)
    except (Exception, pytest.fail.Exception) as error:
        return f"{case}: {type(error).__name__}: {error}"
    return ""


def _compiled(case: Any, table: Any) -> None:
    torch.compiler.reset()
    x = table.POINTS.float().requires_grad_()
    y = torch.compile(case.make(), fullgraph=True)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    table.assert_value(case, y, x, table.tolerance(torch.float32))
    table.assert_near(slope, table.truth_at(case.truth.slope, x), x, table.tolerance(torch.float32))


def _triton(job: Job, table: Any) -> None:
    """Each operator on a million numbers, against float64 by plain operations; it must be Triton that computed it."""
    import undying
    from undying.ops import triton_loader

    if why := triton_loader.missing(torch.device(job.device)):
        job.found.part("Triton's operators", "wrong", why)
        return
    modules = {name: undying.SUGAR(name) for name in undying.SURROGATES} | {"barelu": undying.BAReLU(0.2, 0.1)}
    for name, module in modules.items():
        wrong = []
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            x = (3 * torch.randn(1_000_003, device=job.device)).to(dtype).requires_grad_()
            g = torch.randn(1_000_003, device=job.device).to(dtype)
            with undying.ops.using("triton"):
                y = module(x)
                node: Any = y.grad_fn
                by_triton = triton_loader.library().__name__ in (
                    getattr(getattr(node, "library", None), "__name__", ""),
                    type(getattr(node, "kernel", None)).__module__,
                )
                (slope,) = torch.autograd.grad(y, x, g)
            off = _ulp(slope, _truth(module, x, g))
            job.found.numbers[f"{name}, {str(dtype).removeprefix('torch.')}: ulp"] = off
            wrong += [f"{dtype}: not computed by Triton"] if not by_triton else []
            wrong += [f"{dtype}: {off:.1f} ulp"] if not off <= table.ULP[dtype] else []
        job.found.judged(f"Triton: {name}", wrong, "float32, bfloat16, float16")


def _truth(module: Any, x: Tensor, g: Tensor) -> Tensor:
    import undying

    wide = x.detach().double().requires_grad_()
    with undying.ops.using("composite"):
        return torch.autograd.grad(module(wide), wide, g.double())[0]


def _ulp(actual: Tensor, truth: Tensor) -> float:
    """The farthest, in ulp of max(1, |truth|)."""
    return float(((actual.double() - truth).abs() / truth.abs().clamp(min=1)).max() / torch.finfo(actual.dtype).eps)


# ---------------------------------------------------------------------------------------------------------------------
# Fast


def activations(job: Job) -> None:
    from undying.bench.activations import measure_activations
    from undying.bench.page import activation_page
    from undying.bench.settings import ActivationSettings, short

    sizes, forms = ((1e3,), ("SUGAR bsilu", "BAReLU")) if job.dry else ((1e5, 1e6, 1e7, 1e8), ())
    dtypes = ("float32", "bfloat16")
    each = 0.02 if job.dry else 0.5 * job.seconds / len(sizes) / len(dtypes)
    settings = ActivationSettings(
        sizes=sizes, dtypes=dtypes, threads=(1,), seconds=each, forms=forms, no_compiled=True, device=job.device
    )
    cases = []
    for case in measure_activations(settings, lambda _: None):
        cases.append(case)
        said = {form: case.ratio(form) for form in ("SUGAR bsilu", "BAReLU")}
        note = ", ".join(f"{form} {ratio.value:.3f} of nn.ReLU" for form, ratio in said.items() if ratio)
        job.found.part(f"{short(case.size)} {case.dtype}", note=f"{note}; {case.nodes['SUGAR bsilu']}")
    job.page("activations", activation_page(settings, cases))


def census(job: Job) -> None:
    from undying.bench.census import NETWORKS, CensusSettings, census_page, measure_census
    from undying.lab.models.mlp import mlp

    models: tuple[str, ...] = ("resnet18", "mlp")
    if job.dry:
        models = ("tiny",)
        NETWORKS["tiny"] = lambda: (mlp((8,), 10, depth=2, width=8), torch.randn(4, 8))
    each = 0.02 if job.dry else 0.3 * job.seconds / len(models)
    settings = CensusSettings(
        models=models, batches=1 if job.dry else 4, threads=(1,), seconds=each, no_compiled=True, device=job.device
    )
    cases = []
    for case in measure_census(settings, lambda _: None):
        cases.append(case)
        for (form, to), ratio in case.ratios.items():
            job.found.part(f"{case.model}: {form}", note=f"{ratio.value:.3f} of {to}")
    job.page("census", census_page(settings, cases))


def memory(job: Job) -> None:
    from undying.bench.memory import measure_memory
    from undying.bench.page import memory_page
    from undying.bench.settings import NetworkSettings

    forms = ("nn.ReLU", "SUGAR bsilu", "SUGAR lean")
    model, batch, side = ("mlp", 2, 32) if job.dry else ("resnet18", 256, 64)
    settings = NetworkSettings(models=(model,), batch=batch, side=side, forms=forms, device=job.device)
    found = list(measure_memory(settings, lambda _: None))
    for one in found:
        job.found.part(one.form, note=f"{one.kept:,} bytes kept, {one.peak:,} at most")
    kept = {one.form: one.kept for one in found}
    wrong = [] if kept["SUGAR lean"] <= kept["SUGAR bsilu"] else [f"{kept['SUGAR lean']:,} of {kept['SUGAR bsilu']:,}"]
    job.found.judged(
        "lean keeps no more", wrong, f"{kept['SUGAR lean'] / kept['SUGAR bsilu']:.3f} of what SUGAR keeps without"
    )
    job.page("memory", memory_page(settings, found))


# ---------------------------------------------------------------------------------------------------------------------
# Trained


def throughput(job: Job) -> None:
    """On random images of CIFAR-10's size: time knows no difference. The two must end with the same weights, bit for bit."""
    from undying.lab.execution import prepare
    from undying.papers.forecast import image_flops

    prepare(_execution(job))
    model, shape = ("small_cnn", (3, 8, 8)) if job.dry else ("resnet18", (3, 32, 32))
    batch, steps = (8, 8) if job.dry else (128, 60)
    with tempfile.TemporaryDirectory() as folder:
        file = _random_images(Path(folder) / "images.npz", shape, batch * steps)
        for activation in ("relu", "sugar"):
            plain = _trained(job, file, model, activation, batch, captured=False)
            job.found.numbers[f"{activation}: seconds a step"] = plain.seconds
            job.found.part(f"{activation}, a step", note=f"{1e3 * plain.seconds:.2f} ms")
            if job.dry:
                job.found.part(f"{activation}, replayed", NO_GPU)
                continue
            replayed = _trained(job, file, model, activation, batch, captured=True)
            job.found.numbers[f"{activation}: seconds a replayed step"] = replayed.seconds
            wrong = [] if replayed.weights == plain.weights else ["it ended with other weights"]
            why = f"; not replayed: {replayed.why}" if replayed.why else ""
            job.found.judged(f"{activation}, replayed", wrong, f"{1e3 * replayed.seconds:.2f} ms{why}")
        small = _trained(job, file, model, "relu", 8, captured=False)
    flops = image_flops(model, shape, 10) * batch / job.found.numbers["relu: seconds a step"]
    job.found.numbers["forecast"] = {"GPU_FLOPS": flops, "GPU_STEP": small.seconds}
    job.found.part(
        "forecast", note=f"{flops / 1e12:.3g} TFLOP/s; a step of 8 images takes {1e3 * small.seconds:.2f} ms"
    )


@dataclass(frozen=True)
class Trained:
    seconds: float
    """Of a step, in the second epoch."""
    weights: str
    why: str
    """Why its steps were not replayed, if they were to be."""


def _trained(job: Job, file: Path, model: str, activation: str, batch: int, *, captured: bool) -> Trained:
    from undying.bench.settings import clock
    from undying.lab import data
    from undying.lab.process_group import SingleProcess
    from undying.lab.runs.classification import SingleRun
    from undying.lab.runs.lines import weights_sha256
    from undying.lab.settings import Settings

    settings = Settings(
        data=str(file),
        model=model,
        activations=(activation, "tanh"),
        epochs=2,
        batch_size=batch,
        optimizer="sgd",
        lr=0.001,
    )
    config = settings.runs(data.load(str(file)).sha256)[0]
    run = SingleRun(config, _execution(job, captured=captured), SingleProcess())
    run.begin(16)
    now = clock(job.device)
    begun = 0.0
    for run.epoch in (1, 2):
        begun = now()
        run.train(time.perf_counter(), None)
    seconds = (now() - begun) / run.batches.steps
    run.close()
    return Trained(seconds, weights_sha256(run.model), run.captured.why if run.captured else "")


def _execution(job: Job, *, captured: bool = False, workers: int = 1) -> Any:
    from undying.lab.execution import Execution

    return Execution(
        device=job.device, workers=workers, captured=captured, data_root=job.data_root, checkpoint_seconds=20
    )


def _random_images(file: Path, shape: tuple[int, ...], images: int) -> Path:
    import numpy as np

    draw = np.random.default_rng(0)
    parts = {"train": images, "test": 64}
    np.savez(
        file,
        **{f"x_{part}": draw.integers(0, 256, (n, *shape), dtype=np.uint8) for part, n in parts.items()},
        **{f"y_{part}": np.arange(n) % 10 for part, n in parts.items()},
    )
    return file


def training(job: Job) -> None:
    from undying._base.errors import UndyingError
    from undying.lab import executors
    from undying.papers import pipeline

    execution = _execution(job, captured=not job.dry, workers=1 if job.dry else 4)
    scale, seeds = ("smoke", (1,)) if job.dry else ("full", ())
    try:
        table = pipeline.prepare("sugar-cifar10", scale, seeds, job.out / "work" / "training", execution)
    except UndyingError as error:  # CIFAR-10 is not there
        job.found.part("the data", f"not run: {error}")
        return
    task = next(task for task in table.plan.scale.tasks if task.name == "resnet18")
    wanted = [
        planned.config
        for planned in table.plan.runs
        if planned.task == task.name and planned.config.lr == task.lr and planned.arm in task.stages[0].arms
    ]
    begun = time.monotonic()
    job.found.part(
        "the runs",
        note=f"{len(wanted)}, {execution.workers} at a time, of which {_done(table, wanted)} finished before",
    )
    try:
        missing = [config for config in table.missing if config in wanted]
        executors.run(missing, table.store.out, execution, lambda _: None)
    finally:
        seconds = time.monotonic() - begun
        pipeline.carry_out(table, training=False)
        for page in table.store.out.glob("sugar-cifar10.*"):
            shutil.copy(page, job.out)
        epochs = sum(_epochs(table.store.out / "runs" / config.id / "metrics.jsonl") for config in wanted)
        note = (
            f"{_done(table, wanted)} of {len(wanted)} finished; {epochs} epochs in all, the last run in {seconds:.0f} s"
        )
        job.found.numbers |= {"finished": _done(table, wanted), "of": len(wanted), "epochs": epochs, "seconds": seconds}
        job.found.part("finished", note=note)


def _done(table: Any, wanted: list[Any]) -> int:
    return sum(config in table.finished for config in wanted)


def _epochs(lines: Path) -> int:
    """Trained; the first line is of before."""
    return max(0, len(lines.read_text(encoding="utf-8").splitlines()) - 1) if lines.exists() else 0


STEPS: dict[str, Callable[[Job], None]] = {
    step.__name__: step for step in (operators, activations, census, memory, throughput, training)
}

if __name__ == "__main__":
    sys.exit("run gpu_check.py")
