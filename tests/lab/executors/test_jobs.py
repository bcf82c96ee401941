"""submitit's local backend: real jobs in processes of their own."""

import json
from dataclasses import replace

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


def test_a_killed_job_is_tried_again_what_fails_twice_is_named_and_results_are_those_of_the_process_pool(
    of_the_pool, faulty, tmp_path
):
    settings, out, seen = faulty("seed 0 dies once, seed 1 raises"), tmp_path / "out", []
    with (
        pytest.warns(UserWarning, match="no Slurm here"),
        pytest.raises(UndyingError, match=r"2 of 4 runs did not finish in two tries, .* seed 1: .*failure\.json"),
    ):
        compare(settings, out, JOBS, seen.append)
    assert (tmp_path / "tries-1").read_text() == "xxx"  # one was lost once with the killed job, which was to do it next
    assert len(list(out.glob("runs/*/result.json"))) == len(list(out.glob("runs/*/failure.json"))) == 2
    (tmp_path / "mended").touch()
    with pytest.warns(UserWarning, match="no Slurm here"):
        results = compare(settings, out, replace(JOBS, workers=1), seen.append)
    assert len(seen) == len(set(seen)) == 4
    assert not list(out.glob("runs/*/failure.json"))
    assert json.dumps(results.to_dict()["activations"]) == json.dumps(of_the_pool)
