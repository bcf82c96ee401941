"""Change modules in place, and undo it.

Two kinds of change, each remembered in the module itself, so that both survive copying and pickling:
a module becomes another activation; an entry of a module's ``__dict__`` or a child is set.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_ORIGINAL = "_undying_original"
_CHANGED = "_undying_changed"
_HOOKS = tuple(key for key, value in vars(nn.Module()).items() if isinstance(value, dict) and "hooks" in key)
_KEPT = ("training", "_is_full_backward_hook", *_HOOKS)


def is_converted(module: nn.Module) -> bool:
    """Whether the module has become another."""
    return _ORIGINAL in vars(module)


def become(module: nn.Module, new: nn.Module) -> None:
    """Give ``module`` the class and contents of ``new``, keeping what belongs to its place: hooks and training flag.

    The object stays, so everything that refers to it (aliases, two parents, plain lists, the caller's own variable)
    sees the change. What it was before the first change is kept for ``undo``.
    """
    before = vars(module).get(_ORIGINAL) or (type(module), dict(vars(module)))
    for key in _HOOKS:
        # Into the same dictionary object, since the handles that remove hooks hold on to it.
        vars(module)[key].update(vars(new)[key])
    kept = {key: vars(module)[key] for key in _KEPT}
    _replace(module, type(new), {**vars(new), **kept, _ORIGINAL: before})


def set_entry(module: nn.Module, key: str, value: Any) -> None:
    """Set ``vars(module)[key]``, past ``nn.Module.__setattr__``."""
    _remember(module, key)
    vars(module)[key] = value


def set_child(module: nn.Module, key: str, child: nn.Module) -> None:
    """Register ``child`` under ``key``, in the place of a plain attribute if there is one."""
    _remember(module, key)
    vars(module).pop(key, None)
    child.train(module.training)
    module.add_module(key, child)


def undo(module: nn.Module) -> int:
    """Undo every change to this one module; returns how many activations went."""
    undone = 0
    # What a module was before it became another may itself have been changed.
    while _CHANGED in vars(module) or is_converted(module):
        for key, before in vars(module).pop(_CHANGED, {}).items():
            undone += module._modules.pop(key, None) is not None
            vars(module).pop(key, None)
            if before is not None:
                vars(module)[key] = before[0]
        if is_converted(module):
            cls, contents = vars(module)[_ORIGINAL]
            contents.update({key: vars(module)[key] for key in _KEPT})
            _replace(module, cls, contents)
            undone += 1
    return undone


def _remember(module: nn.Module, key: str) -> None:
    """Keep what is in ``__dict__`` under ``key`` before the first change: a 1-tuple, or None for nothing."""
    before = (vars(module)[key],) if key in vars(module) else None
    vars(module).setdefault(_CHANGED, {}).setdefault(key, before)


def _replace(module: nn.Module, cls: type[nn.Module], contents: dict[str, Any]) -> None:
    try:
        module.__class__ = cls
    except TypeError as error:
        raise TypeError(f"cannot turn a {type(module).__name__} into a {cls.__name__}: {error}") from None
    vars(module).clear()
    vars(module).update(contents)
