"""A table in the terminal that follows :func:`undying.watch`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from undying.census.record import Record

_COLUMNS = ("units", "silent", "dormant", "deaths", "revivals", "firing rate")


class LiveTable:
    """A sink that shows the last record: a row a site, norms in the title. Units are told of the probe, or of the step's batch
    where there is none. Deaths and revivals are events since the start: a unit may have several.

    Args:
        console: default: the terminal.
        rows: most sites to show; those with most silent units come first where there are more.
    """

    def __init__(self, console: Console | None = None, rows: int = 20) -> None:
        self.rows = rows
        self._died: dict[str, int] = {}
        self._revived: dict[str, int] = {}
        self._live = Live(console=console, auto_refresh=False)

    def write(self, record: Record) -> None:
        for total, events in ((self._died, record.died), (self._revived, record.revived)):
            for site, units in events.items():
                total[site] = total.get(site, 0) + len(units)
        self._live.start()  # which does nothing where it has begun
        self._live.update(self._table(record), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _table(self, record: Record) -> Table:
        norms = ", ".join(
            f"{name} {value:.3g}"
            for name, value in (("gradient", record.gradient_norm), ("update", record.update_norm))
            if value is not None
        )
        of = "" if record.probe is None else ", on the probe"
        table = names_and_numbers(f"step {record.step}{of}" + (f"; norms: {norms}" if norms else ""), "site", _COLUMNS)
        counted = record.census if record.probe is None else record.probe
        sites = counted.sites
        if len(sites) > self.rows:
            most = sorted(sites, key=lambda site: -int(site.silent.sum()) if site.silent is not None else 1)
            shown = {site.name for site in most[: self.rows]}
            sites = [site for site in sites if site.name in shown]
            table.caption = f"{len(sites)} of {len(counted.sites)} sites, those with most silent units"
        for site in sites:
            table.add_row(
                Text(site.name),
                str(site.units),
                "-" if site.silent is None else str(int(site.silent.sum())),
                str(int(site.dormant.sum())),
                *("-" if record.probe is None else str(of.get(site.name, 0)) for of in (self._died, self._revived)),
                f"{float(site.firing_rate.mean()):.3f}",
            )
        return table


def names_and_numbers(title: str, first: str, others: Sequence[str]) -> Table:
    """Names to the left, numbers to the right."""
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
