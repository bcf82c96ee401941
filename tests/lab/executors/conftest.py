"""A network of the user's that fails in a given way when it trains with seed 1."""

import sys
from pathlib import Path

import pytest

from undying.lab import Settings

NETWORK = """
import os, signal
from pathlib import Path
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Faulty(), nn.ReLU(), nn.Linear(8, 10))

class Faulty(nn.Module):
    def forward(self, x):
        if self.training and len(x) > 2 and torch.initial_seed() == 1:  # two are the probe of its shapes
            with Path(__file__).with_name("tries").open("ab", buffering=0) as tries:
                tries.write(b"x")
                fault(tries.tell())  # each call of each process has a number of its own
        return x

"""
FAULTS = {
    "none": "def fault(t):\n    pass",
    "raises always": "def fault(t):\n    raise ValueError('a fault\\nof two lines')",
    "out of memory": "def fault(t):\n    torch.empty(10**15)",
    "dies once": "def fault(t):\n    if t == 1: os.kill(os.getpid(), signal.SIGKILL)",
    "dies always": "def fault(t):\n    os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Function of the fault's name that gives settings of four runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def settings(fault):
        Path("faulty.py").write_text(NETWORK + FAULTS[fault])
        return Settings(model="faulty:net", activations=("relu", "sugar"), seeds=2, epochs=1)

    yield settings
    sys.modules.pop("faulty", None)
