"""Shared by the tests of the native kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from undying.ops import native


def _here(name: str) -> bool:
    best = native.instructions()
    try:
        native.use_instructions(name)
    except ValueError:
        return False
    native.use_instructions(best)
    return True


@pytest.fixture(params=[name for name in native.INSTRUCTIONS if _here(name)] if native.missing() is None else [])
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that the machine has, one after the other."""
    before = native.instructions()
    native.use_instructions(request.param)
    yield request.param
    native.use_instructions(before)


# Without a compiler there is nothing to test but that it is said.
collect_ignore = ["test_tally.py"] if native.missing() else []
