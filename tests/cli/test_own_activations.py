"""A comparison of activations that the user wrote: run, reported and listed, also once their file is gone."""

import hashlib
import json
import sys

import pytest

from undying import cli
from undying.lab import Settings
from undying.lab.plan import plan

SOURCE = """
import torch
from torch import nn

class Bent(nn.Module):
    def __init__(self, alpha=0.1):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, x):
        return torch.where(x > 0, x, self.alpha * x)

def squared(x):
    return torch.relu(x) ** 2

def bump(x):
    return x * torch.sigmoid(x)
"""
ARMS = ("relu", "mine:Bent:alpha=0.2", "mine:squared+l2init:1e-3", "sugar:mine:bump", "relu6")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_comparison_and_its_report_without_the_file(here, capsys):
    words = ["--activations", *ARMS, "--seeds", "1", "--epochs", "1", "--workers", "1", "--out", "out"]
    assert cli.main(["compare", *words]) == 0
    results = json.loads((here / "out" / "results.json").read_text())
    assert [arm["name"] for arm in results["activations"]] == list(ARMS)
    for arm in results["activations"]:  # each counted as a site a layer, and nothing within
        assert [site["units"] for site in arm["sites"]] == [128] * 6
        assert 0 <= arm["silent"]["mean"] < 1
    assert [arm["module"] for arm in results["activations"]][1:4] == [
        "mine:Bent:alpha=0.2",
        "mine:squared, L2Init(weight=0.001)",
        "sugar:mine:bump",
    ]
    sha = hashlib.sha256(SOURCE.encode()).hexdigest()
    configs = [json.loads(path.read_text()) for path in here.glob("out/runs/*/config.json")]
    assert {c["activation"]: c.get("activation_sha256") for c in configs} == {
        name: sha if "mine" in name else None for name in ARMS
    }

    (here / "mine.py").unlink()
    sys.modules.pop("mine", None)
    sys.path_importer_cache.clear()
    before = (here / "out" / "results.json").read_bytes()
    assert cli.main(["report", "out"]) == 0
    assert (here / "out" / "results.json").read_bytes() == before
    capsys.readouterr()
    assert cli.main(["runs", "out"]) == 0
    assert "5 runs planned: 5 finished" in " ".join(capsys.readouterr().out.split())
    assert "mine" not in sys.modules
    assert cli.main(["compare", *words, "--dry-run"]) == 2
    assert "mine" in capsys.readouterr().err


def test_an_edited_file_is_another_activation_and_no_other_run_changes(here):
    settings = Settings(activations=ARMS, seeds=1, epochs=1)
    first = {run.activation: run.id for run in plan(settings, here / "out").runs}
    (here / "mine.py").write_text(SOURCE + "\n# edited\n")
    sys.modules.pop("mine")
    second = {run.activation: run.id for run in plan(settings, here / "out").runs}
    assert [name for name in ARMS if first[name] != second[name]] == [name for name in ARMS if "mine" in name]


@pytest.mark.parametrize("name", ["mine:Nothing", "mine:Bent:beta=2", "sugar:mine:Bent", "mien:Bent"])
def test_a_mistake_is_found_before_anything_runs(here, name, capsys):
    assert cli.main(["compare", "--activations", "relu", name, "--out", "out"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (here / "out").exists()
