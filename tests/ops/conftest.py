"""Shared by the tests of the kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels import instructions_here, kernels, kernels_here, libraries_here
from undying.ops import native


@pytest.fixture(params=instructions_here())
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that the machine has, one after the other."""
    with kernels(request.param):
        yield request.param


@pytest.fixture(params=kernels_here())
def each_kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same, and Triton's interpreter."""
    with kernels(request.param):
        yield request.param


@pytest.fixture(params=libraries_here())
def each_library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both libraries of kernels, native with the instruction set that it takes by itself."""
    with kernels(request.param if request.param == "triton" else native.instructions()):
        yield request.param


# Without a compiler and without Triton there is nothing to test but that it is said.
collect_ignore = [
    "compile_for_gpus.py",  # programs, for other compilers
    "run_elsewhere.py",
    *(["test_kernels.py", "test_operators.py"] if not kernels_here() else []),
    *(["test_counting_kernels.py"] if native.missing() else []),
    *(["test_triton.py"] if "triton" not in kernels_here() else []),
]
