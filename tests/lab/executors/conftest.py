"""A network of the user's that fails in a given way."""

import contextlib
import sys
from pathlib import Path

import pytest

from undying.lab import Execution, Settings, compare

NETWORK = """
import os, signal
from pathlib import Path
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Faulty(), nn.ReLU(), nn.Linear(8, 10))

class Faulty(nn.Module):
    def forward(self, x):
        if self.training and len(x) > 2:  # two are the probe of its shapes
            seed = torch.initial_seed()
            with Path(__file__).with_name(f"tries-{seed}").open("ab", buffering=0) as tries:
                tries.write(b"x")
                fault(seed, tries.tell())  # each call of each process has a number of its own
        return x

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def fault(seed, t):
"""
#: With one worker, the two runs of seed 1 fail in turn: one of them dies, the other has no memory.
FAULTS = {
    "none": "pass",
    "seed 1 dies once": "if seed == 1 and t == 1: die()",
    "seed 1 dies and has no memory": "if seed == 1: die() if t % 2 else torch.empty(10**15)",
    "seed 0 dies once, seed 1 raises": """
    if seed == 0 and t == 1: die()
    if seed == 1 and not Path(__file__).with_name('mended').exists(): raise ValueError('a fault\\nof two lines')""",
}


@contextlib.contextmanager
def networks_in(folder):
    """Function of the fault's name that gives settings of four runs."""

    def settings(fault):
        Path("faulty.py").write_text(f"{NETWORK}    {FAULTS[fault]}\n")
        return Settings(model="faulty:net", activations=("relu", "sugar"), seeds=2, epochs=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        yield settings
        sys.modules.pop("faulty", None)


@pytest.fixture
def faulty(tmp_path):
    with networks_in(tmp_path) as settings:
        yield settings


@pytest.fixture(scope="session")
def of_the_pool(tmp_path_factory):
    """What the process pool's runs come to when nothing fails."""
    with networks_in(folder := tmp_path_factory.mktemp("pool")) as settings:
        return compare(settings("none"), folder / "out", Execution(workers=1)).to_dict()["activations"]
