"""Shared by every test."""

import pytest
import torch
from hypothesis import settings

# No deadline: no test may depend on the clock. The same examples in every run, so that a failure is found again.
settings.register_profile("undying", deadline=None, derandomize=True, database=None)
settings.load_profile("undying")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same weights in every run, whatever ran before in the process."""
    torch.manual_seed(0)
