"""The main job: train what is not trained yet, then analyze."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from undying._base import imports
from undying._base.errors import UndyingError
from undying.lab import executors
from undying.lab.collect import analyze
from undying.lab.execution import Execution
from undying.lab.executors.work import groups_of
from undying.lab.finished import check_alike
from undying.lab.plan import Plan, plan
from undying.lab.results import Results
from undying.lab.runs.kind import AloneError, Epoch, kind_of, together_of
from undying.lab.settings import AnyRun, Settings
from undying.lab.tracking import Trackers


def compare(
    settings: Settings,
    out: str | Path,
    execution: Execution | None = None,
    finished: Callable[[AnyRun], None] = lambda _: None,
) -> Results:
    """Train every missing run of ``settings`` and return the results of all.

    Args:
        settings: what to compare.
        out: folder for the runs; those that are in it and finished are used.
        execution: how to run it; default: processes of this machine, one a core.
        finished: called after each run.

    Runs are processes of their own: a script that calls this needs ``if __name__ == "__main__":``.

    Raises:
        RunsFailedError: runs failed; the others are finished.
        UndyingError: the data, the network, the folder or a tracker cannot be used, or runs of a seed do not start alike.
    """
    execution = execution or Execution()
    return carry_out(plan(settings, Path(out), execution), execution, finished)


def carry_out(the_plan: Plan, execution: Execution, finished: Callable[[AnyRun], None] = lambda _: None) -> Results:
    """Train the missing runs of a plan, each of which is then among its finished ones; see :func:`compare`."""
    trackers = Trackers(the_plan.store, execution)
    the_plan.store.prepare(
        the_plan.settings, the_plan.data, the_plan.model_sha256, the_plan.task_sha256, the_plan.activations_sha256
    )
    check_alike(the_plan.finished.values())
    for run in the_plan.finished.values():
        trackers.track(run)

    def done(config: AnyRun) -> None:
        finished(config)
        trackers.track(the_plan.finished.take(config))
        check_alike(the_plan.finished.values())

    executors.run(the_plan.missing, the_plan.store.out, execution, done)
    trackers.check()
    return analyze(the_plan)


def estimate_seconds(the_plan: Plan, execution: Execution) -> float:
    """Expected wall-clock seconds of the missing runs: from finished ones, or from epochs timed here, of as many runs at once
    as are trained together.

    Raises:
        UndyingError: these cannot be trained; an exception of the network is its cause.
    """
    if not the_plan.missing:
        return 0.0
    executors.check_treatments(the_plan.missing, execution)
    if the_plan.finished:
        per_run = sum(run.seconds for run in the_plan.finished.values()) / len(the_plan.finished)
    else:
        group = groups_of(the_plan.missing, the_plan.store.out, execution)[0]
        config = group[0]
        try:
            last = _third_epoch(group, execution)
        except UndyingError:
            raise
        except Exception as error:
            raise imports.raised(config.model, "model", error) from error
        per_run = last.metrics["seconds"] * (config.epochs + 1)
    return per_run * len(the_plan.missing) / min(execution.runs_at_once, len(the_plan.missing))


def _third_epoch(group: Sequence[AnyRun], execution: Execution) -> Epoch:
    """Of the first run; the two before warm up. Of a shorter run the last one."""
    config = group[0]
    together = together_of(config)
    if len(group) > 1 and together is not None:
        try:
            epochs = together.train_together(group, execution, None)
            *_, last = itertools.islice((epoch for run, epoch in epochs if run == 0), 3)
            return last
        except AloneError:
            pass
    *_, last = itertools.islice(kind_of(config).train(config, execution, None), 3)
    return last
