"""Stores of runs that nobody trained: seeded numbers, written by the store itself."""

import contextlib
import random
from collections import Counter

from undying.lab.runs.kind import Epoch
from undying.lab.store import Store

UNITS = 128


class Counted:
    """Stands for a census; the store asks it for nothing but this."""

    def to_dict(self):
        return {"sites": []}


def described(name="digits"):
    return {"name": name, "train": 1437, "test": 360, "classes": 10, "shape": [1, 8, 8], "sha256": f"{name}-sha"}


def epochs_of(config, sites=("act1", "act2", "act3"), unknown=(), shift=0.0):
    """Lines of metrics.jsonl that look like a training; of the states named in ``unknown`` nothing is said."""
    draw = random.Random(f"{config.data} {config.activation} {config.seed}")
    # What seeds differ in is shared by the activations, so that pairs mean something.
    level = 0.9 + shift + 0.01 * random.Random(config.seed).gauss(0, 1) + 0.002 * draw.gauss(0, 1)
    lines = []
    for epoch in range(config.epochs + 1):
        known = (1 + epoch) / (1 + config.epochs)
        counts = [{"silent": int(UNITS * 0.3 * known * draw.random()), "dead": 0, "dormant": 3} for _ in sites]
        line = {"epoch": epoch}
        if epoch:
            line |= {"train_loss": 2.3 / (1 + epoch), "train_accuracy": min(1.0, level * known)}
            line |= {"gradient_norm": 1 / (1 + epoch), "update_norm": 0.1 / (1 + epoch)}
        line |= {
            "test_loss": 2.4 / (1 + epoch),
            "test_accuracy": min(1.0, max(0.0, level * (0.5 + 0.5 * known))),
            "sparsity": 0.4 + 0.2 * draw.random(),
            "sites": [
                {"name": name, "units": UNITS, **count, **dict.fromkeys(unknown)}
                for name, count in zip(sites, counts, strict=True)
            ],
            "seconds": 0.1 + 0.01 * draw.random(),
        }
        lines.append(line)
    return lines


def finish(store, config, lines=None, diverged=False, environment=None):
    """Store ``config`` as finished with these epochs."""
    lines = epochs_of(config) if lines is None else lines

    def epochs(config, checkpoint):
        for line in lines:
            yield Epoch(line, Counted(), diverged and line is lines[-1])

    store.execute(config, epochs, {"environment": environment or {"torch": "2"}, "data": {}})


def stop_in(store, config, epochs, error=KeyboardInterrupt):
    """Leave ``config`` as a process that ended after so many epochs does."""

    def until(config, checkpoint):
        for line in epochs_of(config)[:epochs]:
            yield Epoch(line, Counted())
        raise error

    with contextlib.suppress(error):
        store.execute(config, until, {"environment": {}, "data": {}})


def prepared(out, settings, name="digits"):
    """The store, and the configs of its comparison."""
    store = Store(out)
    store.prepare(settings, described(name))
    return store, settings.runs(f"{name}-sha")


def count_reads(monkeypatch):
    """A counter of how often each run is read from now on, by id."""
    reads, read = Counter(), Store.read
    monkeypatch.setattr(Store, "read", lambda store, config: reads.update([config.id]) or read(store, config))
    return reads
