"""The native library: built where it can be, loaded, and what happens where it is not."""

from __future__ import annotations

import shutil
import sys

import pytest

from fresh import Run
from undying.ops import native


def test_is_built_where_there_is_a_compiler() -> None:
    """Otherwise a broken build would look like a machine without a compiler."""
    if shutil.which("c++") and sys.platform != "win32":
        assert native.missing() is None
        assert native.instructions() in native.INSTRUCTIONS
    else:
        assert "not built" in native.missing()
        assert native.instructions() is None


@pytest.mark.parametrize("name", ["", "AVX2", "sse"])
def test_unknown_instructions_in_the_environment(name: str, fresh: Run) -> None:
    done = fresh("import undying.ops.native", UNDYING_CPU=name)
    assert done.returncode == 1
    assert (
        f"ValueError: the instruction set (UNDYING_CPU) must be portable, avx2 or avx512, not {name!r}" in done.stderr
    )


def test_without_the_library_the_reason_is_said_once_at_debug_level(fresh: Run) -> None:
    done = fresh(
        "import logging, pathlib; logging.basicConfig(level=logging.DEBUG)\n"
        "exists = pathlib.Path.exists\n"
        "pathlib.Path.exists = lambda p, **k: p.name != 'kernels.so' and exists(p, **k)\n"
        "import torch, undying\n"
        "from undying.ops import native\n"
        "print(native.missing(), native.instructions())\n"
        "x = torch.ones(3, requires_grad=True); undying.sugar(x).sum().backward(); print(x.grad)"
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "undying" in line]
    assert said == [f"DEBUG:undying.ops.native:no native kernels: {REASON}"]
    assert f"{REASON} None" in done.stdout
    assert "tensor([1.2560, 1.2560, 1.2560])" in done.stdout  # the gradient is B-SiLU's


REASON = "they were not built: install undying again where a C++ compiler and torch 2.10 or newer are"


@pytest.mark.skipif(native.missing() is not None, reason="there is no library")
def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native._load() is None
    built = native._INTERFACE
    monkeypatch.setattr(native, "_INTERFACE", built + 1)
    expected = f"was built for another undying (interface {built}, not {built + 1}): install undying again"
    assert expected in native._load()


def test_asking_for_instructions_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="must be portable, avx2 or avx512, not 'neon'"):
        native.use_instructions("neon")
