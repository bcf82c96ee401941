"""Put an activation in the place of another throughout a network, and take it back.

A module is converted by giving the *same object* the class and the contents of the new activation, and keeping
its own beside them. So everything that refers to it (aliases, two parents, plain lists, hook handles, the root
itself) sees the change, and ``revert_`` restores exactly what was there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

__all__ = ["ConversionReport", "Row", "convert_", "revert_"]

_ORIGINAL = "_undying_original"
_HOOKS = tuple(key for key, value in vars(nn.Module()).items() if isinstance(value, dict) and "hooks" in key)
_KEPT = ("training", "_is_full_backward_hook", *_HOOKS)


@dataclass(frozen=True)
class Row:
    """What happened to one name in the network."""

    name: str
    """Qualified name; empty for the network itself."""
    kind: str
    """``"module"``."""
    old: str
    new: str | None
    """None where it was left alone."""
    reason: str | None = None
    """Why it was left alone, or which module it shares."""


@dataclass(frozen=True)
class ConversionReport:
    """A row a name that was converted or could have been; prints as a table."""

    rows: tuple[Row, ...]

    @property
    def converted(self) -> int:
        """Number of distinct modules that were converted; an alias counts with the module it names."""
        return sum(row.new is not None and row.reason is None for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"converted": self.converted, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        if not self.rows:
            return "nothing to convert: the network calls none of the targets as a module"
        cells = [(row.name or "(root)", row.old, row.new or "left", row.reason or "") for row in self.rows]
        widths = [max(map(len, column)) for column in zip(("name", "old", "new"), *(c[:3] for c in cells), strict=True)]
        lines = [("name", "old", "new", ""), *cells]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]).rstrip()
            for line in lines
        )


def convert_(
    model: nn.Module,
    activation: nn.Module | Callable[[nn.Module], nn.Module],
    targets: tuple[type[nn.Module], ...] = (nn.ReLU,),
) -> ConversionReport:
    """Replace every module whose type is exactly one of ``targets``, in place.

    Args:
        model: the network; if it is itself a target it is converted too.
        activation: a module, deep-copied for each module it replaces, or a callable that is given the old
            module and returns the new one.
        targets: module types. A subclass of a target is left alone and reported, since its forward may differ.

    Names, state_dict keys, hooks, the training flag, aliases and sharing stay as they are. Functional calls
    such as ``F.relu`` inside a forward are not converted.

    Returns:
        a :class:`ConversionReport`, one row a name.

    Raises:
        TypeError: ``activation`` or ``targets`` are not of these kinds, or a module is compiled to TorchScript.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> print(undying.convert_(net, undying.SUGAR()))
    name  old     new
    1     ReLU()  SUGAR(bsilu(a=1.67))
    >>> undying.revert_(net)
    1
    >>> net[1]
    ReLU()
    """
    make = _factory(activation)
    if not isinstance(targets, tuple) or not all(isinstance(t, type) and issubclass(t, nn.Module) for t in targets):
        raise TypeError(f"targets must be a tuple of module types such as (nn.ReLU,), not {targets!r}")
    parameter = next(model.parameters(), None)
    rows: list[Row] = []
    done: dict[int, Row] = {}
    # A list: converting changes what is being walked.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in done:
            first = done[id(module)]
            rows.append(replace(first, name=name, reason=f"shared with {first.name or '(root)'}"))
        elif type(module) in targets:
            old = repr(module)
            new = make(module)
            if parameter is not None:
                new.to(parameter.device)
            _become(module, new)
            done[id(module)] = Row(name, "module", old, repr(module))
            rows.append(done[id(module)])
        elif isinstance(module, targets):
            base = next(t.__name__ for t in targets if isinstance(module, t))
            reason = f"a subclass of {base}; name its type in targets to convert it"
            rows.append(Row(name, "module", repr(module), None, reason))
    return ConversionReport(tuple(rows))


def revert_(model: nn.Module) -> int:
    """Undo every ``convert_`` in ``model``, in place: the types and contents from before the first one.

    Hooks and the training flag stay as they are now.

    Returns:
        number of modules reverted.
    """
    converted = [module for module in model.modules() if _ORIGINAL in vars(module)]
    for module in converted:
        cls, contents = vars(module)[_ORIGINAL]
        contents.update({key: vars(module)[key] for key in _KEPT})
        _replace(module, cls, contents)
    return len(converted)


def _factory(activation: nn.Module | Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    if isinstance(activation, nn.Module):
        template = activation
        return lambda _: copy.deepcopy(template)
    if isinstance(activation, type) or not callable(activation):
        raise TypeError(
            f"activation must be a module such as undying.SUGAR(), or a callable from the old module to the new one, not {activation!r}"
        )
    make = activation

    def made(old: nn.Module) -> nn.Module:
        new = make(old)
        if not isinstance(new, nn.Module) or new is old:
            raise TypeError(f"activation must return a new module for {old!r}, not {new!r}")
        return new

    return made


def _become(module: nn.Module, new: nn.Module) -> None:
    """Turn ``module`` into ``new``, keeping what belongs to its place: hooks, training flag, the way back."""
    before = vars(module).get(_ORIGINAL) or (type(module), dict(vars(module)))
    for key in _HOOKS:
        # Into the same dictionary object, since the handles that remove hooks hold on to it.
        vars(module)[key].update(vars(new)[key])
    kept = {key: vars(module)[key] for key in _KEPT}
    contents = {**vars(new), **kept, _ORIGINAL: before}
    _replace(module, type(new), contents)


def _replace(module: nn.Module, cls: type[nn.Module], contents: dict[str, Any]) -> None:
    try:
        module.__class__ = cls
    except TypeError as error:
        raise TypeError(f"cannot turn a {type(module).__name__} into a {cls.__name__}: {error}") from None
    vars(module).clear()
    vars(module).update(contents)
