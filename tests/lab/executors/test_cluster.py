"""A real Ray cluster of two workers on this machine."""

import json
import sys

import pytest

from undying._base.errors import UndyingError
from undying.lab import Execution, compare

RAY = Execution(workers=2, executor="ray")


# Ray's own: it leaves files and processes to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_results_are_those_of_the_process_pool_though_a_worker_is_killed(of_the_pool, faulty, tmp_path):
    settings, seen = faulty("seed 1 dies once"), []
    results = compare(settings, tmp_path / "ray", RAY, seen.append)
    assert len(seen) == len(set(seen)) == 4
    assert (tmp_path / "tries-1").exists()
    assert not list(tmp_path.glob("ray/runs/*/failure.json"))
    assert json.dumps(results.to_dict()["activations"]) == json.dumps(of_the_pool)


def test_without_ray_the_extra_is_named(faulty, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UndyingError, match=r"undying\[scale\]"):
        compare(faulty("none"), tmp_path, RAY)
