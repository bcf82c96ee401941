"""The finished runs of a plan, each read once."""

from __future__ import annotations

from collections.abc import Iterable

from undying.lab.runs.kind import Run
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

    def take(self, config: AnyRun) -> Run:
        """One that is known to be finished."""
        if config not in self:
            self[config] = self._store.read(config)
        return self[config]
