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


@pytest.fixture
def wandb_offline(tmp_path, monkeypatch):
    """W&B as in a new process that has these variables: it reads them once, whatever ran before in this one."""
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()
    yield wandb
    wandb.teardown()
