"""Every table, by name: a module a family, whose tables differ in a few numbers only.

They are Python and not TOML: the type checker is their schema, arms that tables share are written once, and Python 3.10
needs no parser for them. A task of another kind of runs is a ``KindTask``. A table that is no grid of the lab's runs is a
class of its own beside ``Table``, and has a function of its own in ``undying.papers.pipeline``.
"""

from __future__ import annotations

from undying._base.errors import UndyingError
from undying.papers.overhead import Overhead
from undying.papers.table import Table
from undying.papers.tables import (
    barelu_cartpole,
    barelu_cifar,
    barelu_eps,
    barelu_gradients,
    barelu_overhead,
    sugar_cifar,
    sugar_gelu,
    sugar_landscape,
    sugar_profile,
    undying_death,
    undying_plasticity,
    undying_plasticity_rl,
    undying_sae,
    undying_treat,
)

__all__ = ["TABLES", "TIMED", "find"]

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *barelu_cifar.TABLES,
        *barelu_cartpole.TABLES,
        barelu_gradients.TABLE,
        barelu_eps.TABLE,
        *sugar_cifar.TABLES,
        *sugar_gelu.TABLES,
        sugar_profile.TABLE,
        sugar_landscape.TABLE,
        *undying_death.TABLES,
        undying_treat.TABLE,
        undying_sae.TABLE,
        undying_plasticity.TABLE,
        undying_plasticity_rl.TABLE,
    )
}
"""In the order of ``undying reproduce --list``."""

TIMED: dict[str, Overhead] = {barelu_overhead.TABLE.name: barelu_overhead.TABLE}
"""Those of wall-clock times, which have no runs."""


def find(name: str) -> Table:
    """The table called ``name``.

    Raises:
        UndyingError: there is none.
    """
    if name in TIMED:
        raise UndyingError(f"{name} has no runs, it times this machine: undying reproduce {name}")
    if name not in TABLES:
        raise UndyingError(f"unknown table {name!r}; known: {', '.join((*TABLES, *TIMED))} (undying reproduce --list)")
    return TABLES[name]
