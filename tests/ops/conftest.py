"""Shared by the tests of the native kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels import kernels, kernels_here
from undying.ops import native


@pytest.fixture(params=kernels_here())
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that the machine has, one after the other."""
    with kernels(request.param):
        yield request.param


# Without a compiler there is nothing to test but that it is said.
collect_ignore = ["test_kernels.py", "test_operators.py", "test_tally.py"] if native.missing() else []
