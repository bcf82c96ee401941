"""The finished runs of a plan, each read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from undying._base.errors import UndyingError
from undying.lab.runs.kind import Run
from undying.lab.runs.start import CAUSES, difference
from undying.lab.settings import AnyRun
from undying.lab.store import Store


class FinishedRuns(dict[AnyRun, Run]):
    """Config -> run, of those ``configs`` that are finished in ``store``. Each is read once, however often one looks.

    Raises:
        UndyingError: one cannot be read.
    """

    def __init__(self, store: Store, configs: Iterable[AnyRun]) -> None:
        super().__init__()
        self._store = store
        self._configs = tuple(dict.fromkeys(configs))
        self.look()

    @property
    def missing(self) -> list[AnyRun]:
        """The others, in the order given."""
        return [config for config in self._configs if config not in self]

    def look(self) -> None:
        """Read those that have been finished since."""
        for config in self.missing:
            if self._store.finished(config):
                self.take(config)

    def snapshot(self) -> FinishedRuns:
        """Those that are known now, for another thread: runs that are taken afterwards are not in it."""
        taken = FinishedRuns(self._store, ())
        taken._configs = self._configs
        taken.update(dict(self))  # at once, before anything else can be taken
        return taken

    def take(self, config: AnyRun) -> Run:
        """One that is known to be finished."""
        if config not in self:
            self[config] = self._store.read(config)
        return self[config]


def check_alike(runs: Iterable[Run]) -> None:
    """
    Raises:
        UndyingError: two runs of one seed and the same options do not start alike. Runs of early versions, which did not note their start, are
            left out.
    """
    first: dict[tuple[AnyRun, str], Run] = {}
    for run in runs:
        if run.start is None:
            continue
        # Of other options, such as the size of a batch, others start otherwise.
        alike = replace(run.config, activation="", lr=0.0)
        other = first.setdefault((alike, run.start.made_on), run)
        assert other.start is not None
        found = difference(other.start, run.start)
        if found:
            raise UndyingError(
                f"{other.config.activation} and {run.config.activation} do not start alike at seed {run.config.seed}, so "
                f"they are no pair: {found}; {CAUSES}, then compare in another folder with --out"
            )
