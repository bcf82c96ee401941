"""Shared by every test."""

import os
from multiprocessing import forkserver

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the cores: with a thread a core each, threads wait for one another. torch reads it once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

from fresh import programs

# No deadline: no test may depend on the clock. The same examples in every run, so that a failure is found again.
settings.register_profile("undying", deadline=None, derandomize=True, database=None)
settings.load_profile("undying")


FORKED = ["undying.lab.runs.classification", "torch._dynamo", "sklearn.datasets", "sklearn.model_selection"]
"""What processes import that tests have forked: to import it takes them seconds each."""


@pytest.fixture(scope="session", autouse=True)
def one_forkserver():
    """All are forked from one server, and it imports what whoever starts it says: here that and ``FORKED``, whichever
    test is first."""
    with pytest.MonkeyPatch.context() as patch:
        preload = forkserver.set_forkserver_preload
        preload(FORKED)
        patch.setattr(forkserver, "set_forkserver_preload", lambda modules: preload([*modules, *FORKED]))
        yield


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """Function that runs a program where nothing is imported but torch, see :mod:`fresh`."""
    with programs(tmp_path_factory.mktemp("fresh")) as run:
        yield run


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
