"""Triton's kernels: where they are used, what is said where they are not, and that they compile for GPUs.

Their numbers are tested beside the native ones, in Triton's interpreter (test_kernels.py, test_operators.py). Nothing here
needs a GPU, and nothing here has run on one.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing._internal.optests.generate_tests import OpCheckError

import undying
from fresh import Run
from kernels import kernels, numbers
from undying.ops import dispatch, native, triton_loader

CPU = torch.device("cpu")


@pytest.fixture
def run(fresh: Run) -> Callable[..., str]:
    """What a process of its own says, where Triton compiles as it does anywhere."""

    def said(program: str, **environment: str) -> str:
        without = {name: None for name in os.environ if name.startswith("TRITON")}
        done = fresh(textwrap.dedent(program), **{**without, **environment})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return said


# ---------------------------------------------------------------------------------------------------------------------
# Where it is used


def test_on_the_cpu_when_asked_for_by_name_alone() -> None:
    x = numbers(5).requires_grad_()
    assert not isinstance(undying.sugar(x).grad_fn.kernel, triton_loader.library().SlopeKernel)
    with kernels("triton"):
        assert isinstance(undying.sugar(x).grad_fn.kernel, triton_loader.library().SlopeKernel)
        assert undying.barelu(x, eps=0.1).grad_fn.library is triton_loader.library()
        assert undying.sugar(x.double()).grad_fn.kernel is None


def test_on_a_gpu_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without numbers stands for one."""
    gpu = torch.zeros(3, device="meta")
    monkeypatch.setattr(triton_loader, "DEVICES", ("meta",))
    monkeypatch.setattr(triton_loader, "_refusal", lambda device: None)
    library = {}
    for path in ("auto", "triton", *([] if native.missing() else ["native"])):
        with kernels(path) if path == "triton" else undying.ops.using(path):
            library[path] = dispatch.library_for(gpu)
    assert library.pop("native", None) is None
    assert library == {"auto": triton_loader.library(), "triton": triton_loader.library()}


def test_a_device_that_it_does_not_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the closed form takes its place; by name it is an error."""
    x = numbers(3).to("meta").requires_grad_()
    assert undying.sugar(x).grad_fn.kernel is None
    with (
        kernels("triton"),
        pytest.raises(RuntimeError, match=r"'triton' is not there .* on meta: they are not for meta"),
    ):
        undying.sugar(x)


def test_a_kernel_that_does_not_compile_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def broken(*_: object) -> None:
        tried.append(1)
        raise OSError("no C compiler")

    monkeypatch.setattr(triton_loader.library(), "operator", lambda name: broken)
    triton_loader._refusal.cache_clear()
    try:
        for _ in range(2):
            assert triton_loader.missing(CPU) == "they do not run on cpu: OSError: no C compiler"
        assert len(tried) == 1
    finally:
        triton_loader._refusal.cache_clear()


def test_without_triton(run: Callable[..., str]) -> None:
    said = run(
        """
        import sys
        sys.modules["triton"] = None
        import torch, undying
        from undying.ops import dispatch
        from undying.ops import native, triton_loader
        undying.sugar(torch.ones(3, requires_grad=True)).sum().backward()
        print(dispatch.report()["Triton kernels"])
        try:
            with undying.ops.using("triton"):
                pass
        except RuntimeError as error:
            print(error)
        """
    )
    reason = "they do not import: ModuleNotFoundError: import of triton halted; None in sys.modules"
    assert said.splitlines() == [f"missing: {reason}", f"the path 'triton' is not there: {reason}"]


# ---------------------------------------------------------------------------------------------------------------------
# Compilers


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # within opcheck
def test_what_the_interpreter_cannot_do() -> None:
    """One of opcheck's utilities, and torch.compile; the next test takes their place."""
    x = numbers(5).requires_grad_()
    operator = triton_loader.library().operator("barelu")
    with kernels("triton"):
        with pytest.raises(
            OpCheckError, match="test_aot_dispatch_dynamic failed with Attempted to access the data pointer"
        ):
            torch.library.opcheck(operator, (x, 0.2, 0.1), test_utils="test_aot_dispatch_dynamic")
        with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="Attempted to access the data pointer"):
            torch.compile(lambda x: operator(x, 0.2, 0.1), backend="aot_eager")(x)


def test_where_triton_compiles(tmp_path: Path, run: Callable[..., str]) -> None:
    """It is imported at the first need; its kernels take any number of elements, and are seen by torch.compile.

    For a GPU that is not here kernels are compiled as their launch would, and traced: the tensors have no numbers, the
    analysis of the kernels is real. A backward pass cannot be traced so; its operator is called by itself.
    """
    said = run(
        """
        import contextlib, re, sys, torch, undying
        from unittest import mock
        from torch._dynamo.backends.common import aot_autograd
        from torch._subclasses import FakeTensorMode
        from undying.ops import triton_loader

        x = torch.ones(3, requires_grad=True)
        undying.sugar(x).sum().backward()
        print("at first:", "undying.ops.triton_kernels" in sys.modules)
        with undying.ops.using("triton"):
            print("by name:", "undying.ops.triton_kernels" in sys.modules)
            try:
                undying.sugar(x)
            except RuntimeError as error:
                print(error)

        import triton
        from triton.backends.compiler import GPUTarget

        class Driver:
            def get_current_target(self):
                return GPUTarget("cuda", 90, 32)

            def get_current_device(self):
                return 0

            def get_current_stream(self, device):
                return 0

        triton.runtime.driver.set_active(Driver())
        kernels, operator = triton_loader.library(), triton_loader.library().operator
        for n in (1, 16, 17, 2**31 + 1):
            launch = kernels.barelu.warmup(torch.half, torch.half, n, 0.2, 0.1, block=1024, grid=(1,))
            print(n, re.search(r"%n: (i..)|$", launch.asm["ttir"])[1])

        def show(graph, inputs):
            for node in graph.graph.nodes:
                if node.op == "call_function" and "getitem" not in str(node.target):
                    print(node.target, *node.kwargs.get("tensors_to_clone", ()))
            return graph.forward

        def f(g, x):
            return operator("barelu")(x, 0.2, 0.1), operator("mish_backward")(g, x.T, 0.0, 1.0, -110.0, 40.0)

        with FakeTensorMode(allow_non_fake_inputs=True), mock.patch("torch.cuda.device_of", contextlib.nullcontext):
            g, x = torch.ones(3, 5, device="cuda"), torch.ones(5, 3, device="cuda")
            torch.compile(f, backend=aot_autograd(fw_compiler=show), fullgraph=True)(g, x)
        """,
        TRITON_CACHE_DIR=str(tmp_path),
    )
    assert said.splitlines() == [
        "at first: False",
        "by name: True",
        "the path 'triton' is not there for a tensor on cpu: "
        "they are not for cpu, where they need TRITON_INTERPRET=1 before their first use",
        "1 None",  # compiled into the program
        "16 i32",
        "17 i32",
        "2147483649 i64",
        "aten.empty_like.default",
        "triton_kernel_wrapper_functional out",
        "aten.permute.default",
        "aten.empty_like.default",
        "aten.empty_like.default",  # the gradient, in the order of x.T
        "aten.copy.default",
        "triton_kernel_wrapper_functional out",
    ]


def test_kernels_compile_for_gpus(tmp_path: Path, run: Callable[..., str]) -> None:
    """One type and two kernels for each, since all of them take half a minute; and undying is imported with the path."""
    file = Path(__file__).with_name("compile_for_gpus.py")
    said = run(
        f"import runpy, sys; sys.argv = ['', 'bf16', 'bsilu', 'barelu']; runpy.run_path({str(file)!r}, run_name='__main__')",
        TRITON_CACHE_DIR=str(tmp_path),
        UNDYING_PATH="triton",
    )
    assert [line.split(",")[0] for line in said.splitlines()] == [
        f"{target}: 4 programs" for target in ("sm80", "sm90", "sm100", "gfx942")
    ]
