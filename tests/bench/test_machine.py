import json
import os
import platform

import torch

from undying.bench import machine


def test_names_what_the_figures_depend_on():
    found = machine.describe()
    assert found.torch == torch.__version__
    assert found.python == platform.python_version()
    assert found.threads == torch.get_num_threads()
    assert 1 <= found.cores <= os.cpu_count()
    assert found.processor
    assert json.loads(json.dumps(found.to_dict()))["instructions"] == torch.backends.cpu.get_cpu_capability()
    for part in (found.processor, found.torch, found.undying, found.instructions):
        assert part in str(found)


def test_a_package_outside_version_control_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.describe().commit == ""
