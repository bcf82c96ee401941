"""Results of runs as a test wants them, for the runs of a plan."""

import csv
import io

from undying.papers.results import RunResult

ENVIRONMENT = {"undying": "0", "python": "3", "torch": "2", "processor": "abacus", "cores": "2", "threads": "1"}


def results(plan, accuracy, *, keep=lambda planned: True, **more):
    """One for each run of ``plan`` that ``keep`` keeps; ``accuracy`` and the others are functions of the planned run."""
    values = {"validation": accuracy, "silent": lambda _: 0.2, "dead": lambda _: 0.1, "sparsity": lambda _: 0.5}
    values |= {"weights": lambda planned: planned.config.id, "status": lambda _: "finished", **more}
    return tuple(
        RunResult(
            planned=planned,
            id=planned.config.id,
            accuracy=accuracy(planned),
            seconds=2.0,
            environment=ENVIRONMENT,
            **{name: value(planned) for name, value in values.items()},
        )
        for planned in plan.runs
        if keep(planned)
    )


def damaged(text, column, value):
    """A table of runs, in the third row of which ``column`` is ``value``."""
    rows = list(csv.DictReader(io.StringIO(text)))
    rows[2][column] = value
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
