"""Change modules in place, and undo it.

Three kinds of change, each remembered in the module itself, so that all survive copying and pickling: a module becomes
another activation; its forward is rerouted; an entry of its ``__dict__`` or a child is set. What others set since stays.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from undying.treat.forwards import CALLS, FORWARDS, Call, around, plain_type, rerouted

_ORIGINAL = "_undying_original"
_CHANGED = "_undying_changed"
_HOOKS = tuple(key for key, value in vars(nn.Module()).items() if isinstance(value, dict) and "hooks" in key)
_KEPT = ("training", "_is_full_backward_hook", *_HOOKS)


def is_converted(module: nn.Module) -> bool:
    """Whether the module has become another."""
    return _ORIGINAL in vars(module)


def become(module: nn.Module, new: nn.Module) -> None:
    """Give ``module`` the class and contents of ``new``, keeping what belongs to its place: hooks, training flag, and
    what others wrote on it.

    The object stays, so everything that refers to it (aliases, two parents, plain lists, the caller's own variable)
    sees the change.
    """
    undo(module)
    brought = {key: value for key, value in vars(new).items() if key not in _KEPT}
    hooks = {key: list(vars(new)[key]) for key in _HOOKS}
    # An attribute would stand before a method or a property of the same name.
    members = {name for base in type(new).__mro__[:-1] for name in vars(base)} - {"forward", "__doc__", "__module__"}
    displaced = {
        key: value for key, value in vars(module).items() if key not in _KEPT and key in brought.keys() | members
    }
    original = type(module), displaced, list(brought), hooks
    for key in _HOOKS:
        # Into the same dictionary object, since the handles that remove hooks hold on to it.
        vars(module)[key].update(vars(new)[key])
    stay = {key: value for key, value in vars(module).items() if key not in displaced}
    _replace(module, type(new), {**stay, **brought, _ORIGINAL: original})


def reroute(module: nn.Module, *calls: Call) -> None:
    """From now on send these calls in the module's forward to its children.

    Without any, nothing that runs in this forward is in the reach of a replacement around it.
    """
    if CALLS not in vars(module):
        if "forward" in vars(module):
            vars(module).setdefault(FORWARDS, []).append(vars(module)["forward"])
            set_entry(module, "forward", around(module))
        vars(module)[CALLS] = {}
        module.__class__ = rerouted(type(module))
    vars(module)[CALLS].update({call.kind: call for call in calls})


def set_entry(module: nn.Module, key: str, value: Any) -> None:
    """Set ``vars(module)[key]``, past ``nn.Module.__setattr__``."""
    _remember(module, key, value, vars(module).get(key, _NOTHING))
    vars(module)[key] = value


def add_child(module: nn.Module, key: str, child: nn.Module) -> None:
    """Register ``child`` under ``key``, in the place of a plain attribute if there is one."""
    _remember(module, key, child, vars(module).pop(key, _NOTHING))
    child.train(module.training)
    module.add_module(key, child)


def swap_child(module: nn.Module, key: str, child: nn.Module) -> None:
    """Put ``child`` in the place of the child that is there."""
    _remember(module, key, child, module._modules[key])
    module._modules[key] = child


def converted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The activations that were put into a network, with their names."""
    return ((name, module) for name, _, module, _ in replaced(model))


Before = nn.Module | Call | Callable[..., Any] | None
"""What an activation took the place of: a module, calls in a forward, a function held as an attribute; None: unknown."""


def replaced(model: nn.Module) -> Iterator[tuple[str, str, nn.Module, Before]]:
    """What ``undo`` takes out of a network: name, kind of place, the activation that stands there now, and what comes
    back."""
    added: dict[nn.Module, tuple[str, Before]] = {}
    for name, module in model.named_modules():
        if module in added:
            kind, before = added[module]
            yield name, kind, module, before
        elif is_converted(module):
            yield name, "module", module, original(module)
        calls = {call.child: call for call in vars(module).get(CALLS, {}).values()}
        for key, (ours, before) in vars(module).get(_CHANGED, {}).items():
            if not isinstance(ours, nn.Module):
                continue
            if isinstance(before, nn.Module):
                added[ours] = "module", original(before)
            else:
                added[ours] = ("attribute", before) if before != _NOTHING else ("call", calls.get(key))


def original(module: nn.Module) -> nn.Module:
    """What a module was before it became another, as one of its own; itself if it is what it was."""
    if not is_converted(module):
        return module
    cls, displaced, brought, _ = vars(module)[_ORIGINAL]
    old: nn.Module = cls.__new__(cls)
    nn.Module.__init__(old)
    left_out = {*brought, *_HOOKS, _ORIGINAL, _CHANGED, "forward"}
    vars(old).update({key: value for key, value in vars(module).items() if key not in left_out}, **displaced)
    return old


@contextlib.contextmanager
def undone(model: nn.Module) -> Iterator[None]:
    """Within it the network is what it was before the first change, and afterwards what it is now."""
    kept: list[tuple[nn.Module, type[nn.Module], list[tuple[str, Any, Any]]]] = []
    try:
        for module in model.modules():  # parents first: what goes with them is not looked into
            kept.append((module, type(module), [(key, value, _shallow(value)) for key, value in vars(module).items()]))
            undo(module)
        yield
    finally:
        for module, cls, contents in kept:
            module.__class__ = cls
            vars(module).clear()
            for key, value, copied in contents:
                # Into the same object: handles that remove hooks hold on to it.
                if isinstance(value, dict):
                    value.clear()
                    value.update(copied)
                elif isinstance(value, list):
                    value[:] = copied
                vars(module)[key] = value


def _shallow(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, (dict, list)) else None


def undo(module: nn.Module) -> list[nn.Module]:
    """Undo every change to this one module, but what others changed since.

    Returns:
        the activations that went: the module itself, its children.
    """
    gone: list[nn.Module] = []
    if vars(module).pop(CALLS, None) is not None:
        module.__class__ = plain_type(module)
    for key, (ours, before) in vars(module).pop(_CHANGED, {}).items():
        if isinstance(ours, nn.Module) and module._modules.get(key) is ours:
            gone.append(ours)
            if isinstance(before, nn.Module):
                module._modules[key] = before  # in its place in the order
                continue
            del module._modules[key]
        elif vars(module).get(key, _NOTHING) is not ours:
            continue
        vars(module).pop(key, None)
        if before != _NOTHING:
            vars(module)[key] = before
        if key == "forward" and FORWARDS in vars(module):
            vars(module)[FORWARDS].pop()
            if not vars(module)[FORWARDS]:
                del vars(module)[FORWARDS]
    if is_converted(module):
        cls, displaced, brought, hooks = vars(module).pop(_ORIGINAL)
        for key, ids in hooks.items():
            for number in ids:
                vars(module)[key].pop(number, None)
        stay = {key: value for key, value in vars(module).items() if key not in brought}
        _replace(module, cls, {**stay, **displaced})
        gone.append(module)
    return gone


#: Equal to itself after a copy too.
_NOTHING = "undying: nothing was here"


def _remember(module: nn.Module, key: str, ours: Any, before: Any) -> None:
    """Keep what was there before the first change."""
    changed = vars(module).setdefault(_CHANGED, {})
    changed[key] = ours, changed[key][1] if key in changed else before


def _replace(module: nn.Module, cls: type[nn.Module], contents: dict[str, Any]) -> None:
    try:
        module.__class__ = cls
    except TypeError as error:
        raise TypeError(f"cannot turn a {type(module).__name__} into a {cls.__name__}: {error}") from None
    vars(module).clear()
    vars(module).update(contents)
