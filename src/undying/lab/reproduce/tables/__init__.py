"""Every table, by name: a module a family, whose tables differ in a few numbers only.

They are Python and not TOML: the type checker is their schema, arms that tables share are written once, and Python 3.10
needs no parser for them. A task of another kind of runs is a ``Trial``. A table that is no grid of the lab's runs is a
class of its own beside ``Table``, and a branch of its own in ``undying.cli.reproduce``.
"""

from __future__ import annotations

from undying.errors import UndyingError
from undying.lab.reproduce.table import Table
from undying.lab.reproduce.tables import barelu_cartpole, barelu_cifar, sugar_cifar, sugar_gelu, undying_death

__all__ = ["TABLES", "find"]

TABLES: dict[str, Table] = {
    table.name: table
    for family in (barelu_cifar, barelu_cartpole, sugar_cifar, sugar_gelu, undying_death)
    for table in family.TABLES
}
"""In the order of ``undying reproduce --list``."""


def find(name: str) -> Table:
    """The table called ``name``.

    Raises:
        UndyingError: there is none.
    """
    if name not in TABLES:
        raise UndyingError(f"unknown table {name!r}; known: {', '.join(TABLES)} (undying reproduce --list)")
    return TABLES[name]
