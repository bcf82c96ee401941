"""What ``--help`` says of each option: its docstring as one paragraph, and its default where that says something."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import tyro


def describe(command: Any) -> None:
    """Note it at the fields of a command's dataclass, and of those that they hold, before tyro reads them.

    tyro keeps every line break of an indented docstring, and shows ``(default: )``, ``(default: None)`` and of a flag
    ``--no-x`` ``(default: True)``.
    """
    for parent in command.__mro__:
        if "__annotations__" not in vars(parent) or not is_dataclass(parent):
            continue
        hints = get_type_hints(parent, include_extras=True)
        said = _docstrings(parent)
        for name in parent.__annotations__:
            for part in _parts(hints[name]):
                describe(part)
            if name in said:
                parent.__annotations__[name] = _described(hints[name], said[name])


def _parts(hint: Any) -> list[Any]:
    """The dataclasses in a type: of ``Annotated[A | Annotated[B, ...], ...]`` A and B."""
    return (
        [hint]
        if isinstance(hint, type) and is_dataclass(hint)
        else [part for inner in get_args(hint) for part in _parts(inner)]
    )


def _docstrings(cls: Any) -> dict[str, str]:
    """The string below each field."""
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(defined, ast.ClassDef)
    said = {}
    for field, below in pairwise(defined.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                said[name] = " ".join(text.split())
    return said


def _described(hint: Any, said: str) -> Any:
    def default(label: str) -> str:
        return "" if label in ("", "''", "None", "True", "False") or "efault" in said else f"(default: {label})"

    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    metavar = kinds[0].__name__.upper() if NoneType in get_args(hint) and len(kinds) == 1 else None
    return Annotated[hint, tyro.conf.arg(help=said, help_behavior_hint=default, metavar=metavar)]
