"""submitit's local backend: real jobs in processes of their own."""

import json

import pytest

from undying._base.errors import UndyingError
from undying.lab import Execution, compare

# submitit's own: it leaves log files and processes to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

JOBS = Execution(workers=2, executor="submitit", job=("timeout_min=10",))


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    """What submitit does by itself where sbatch is missing, also on a machine that has it."""
    import submitit

    automatic = submitit.AutoExecutor
    monkeypatch.setattr(submitit, "AutoExecutor", lambda folder: automatic(folder, cluster="local"))


def test_results_are_those_of_the_process_pool_though_a_job_is_killed(faulty, tmp_path):
    settings, seen = faulty("dies once"), []
    results = compare(settings, tmp_path / "jobs", JOBS, seen.append)
    assert len(seen) == len(set(seen)) == 4
    assert not list(tmp_path.glob("jobs/runs/*/failure.json"))
    pool = compare(settings, tmp_path / "pool", Execution(workers=2))
    assert json.dumps(results.to_dict()["activations"]) == json.dumps(pool.to_dict()["activations"])


def test_what_fails_twice_is_named(faulty, tmp_path):
    with pytest.raises(UndyingError, match=r"2 of 4 runs did not finish in two tries, .* seed 1: .*failure\.json"):
        compare(faulty("raises always"), tmp_path / "out", JOBS)
    assert (tmp_path / "tries").read_text() == "xxxx"
    assert len(list(tmp_path.glob("out/runs/*/result.json"))) == 2
