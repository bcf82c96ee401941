"""The finished runs of a comparison are pairs, or there is no comparison."""

import pytest

from stores import epochs_of, prepared
from undying._base.errors import UndyingError
from undying.lab import Settings, executors
from undying.lab.collect import collect
from undying.lab.comparison import compare
from undying.lab.execution import Execution
from undying.lab.plan import plan
from undying.lab.runs.kind import Epoch
from undying.lab.runs.start import Start

SETTINGS = Settings(activations=("relu", "sugar", "gelu"), seeds=2, epochs=1)


def begin(store, config, weight):
    """Store ``config`` as finished, from such an initial weight."""

    def epochs(config, checkpoint):
        for line in epochs_of(config):
            yield Epoch(line, None, start=Start("here", {"0.weight": weight}, "b", "r") if line["epoch"] == 0 else None)

    store.execute(config, epochs, {"environment": {}, "data": {}})


def test_a_report_of_runs_that_do_not_start_alike_is_refused(tmp_path):
    store, configs = prepared(tmp_path, SETTINGS)
    for config in configs:
        begin(store, config, "other" if (config.activation, config.seed) == ("gelu", 1) else f"seed {config.seed}")
    with pytest.raises(UndyingError, match=r"relu and gelu do not start alike at seed 1.*'0\.weight'"):
        collect(store, SETTINGS)


def test_a_comparison_ends_with_the_first_run_that_does_not_start_as_its_pair(tmp_path, monkeypatch):
    trained = []

    def run(configs, out, execution, finished):
        for config in configs:
            trained.append(config)
            begin(plan(SETTINGS, out).store, config, "other" if config.activation == "sugar" else "same")
            finished(config)

    monkeypatch.setattr(executors, "run", run)
    with pytest.raises(UndyingError, match="relu and sugar do not start alike at seed 0"):
        compare(SETTINGS, tmp_path, Execution(workers=1))
    assert [(c.activation, c.seed) for c in trained] == [("relu", 0), ("sugar", 0)]
    with pytest.raises(UndyingError, match="relu and sugar do not start alike at seed 0"):
        compare(SETTINGS, tmp_path, Execution(workers=1))
    assert len(trained) == 2  # nothing is trained beside a pair that is none
