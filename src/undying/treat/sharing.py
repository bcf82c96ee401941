"""Find who holds a part of a network outside of it, as one ``nn.ReLU()`` that is the default argument of every network."""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import Counter
from typing import Any

from torch import nn


def holders(model: nn.Module) -> dict[nn.Module, str]:
    """Every module below ``model`` that networks outside of it are made from or made of, and who holds it.

    Those are other living modules, class attributes and default arguments. Variables, lists and hooks do not count:
    they are taken to follow the network.
    """
    parts = [module for module in model.modules() if module is not model]
    places = Counter(id(child) for module in model.modules() for child in module._modules.values())
    probe = nn.Identity()  # held by the list and by this name
    parts.append(probe)
    counts = [sys.getrefcount(part) for part in parts]
    # Who walks through all objects takes a twentieth of a second: only where somebody holds it at all.
    held = [part for part, count in zip(parts, counts, strict=True) if count - places[id(part)] > counts[-1] - 1]
    held.remove(probe)
    del probe, parts
    return _searched(model, held) if held else {}


def _searched(model: nn.Module, held: list[nn.Module]) -> dict[nn.Module, str]:
    inside = {id(module._modules) for module in model.modules()}
    containers = [c for c in gc.get_referrers(*held) if type(c) in (dict, tuple) and id(c) not in inside]
    if not containers:
        return {}
    found: dict[nn.Module, str] = {}
    keys = {id(container): container for container in containers}
    owners = gc.get_referrers(*containers)
    for owner in owners:
        for who, values in _kinds(owner, keys):
            found.update({module: who for module in held if any(value is module for value in values)})
    return found


def _kinds(owner: Any, containers: dict[int, Any]) -> list[tuple[str, Any]]:
    """How ``owner`` uses the containers that it holds, in words, with what is in them."""
    if isinstance(owner, type):
        return [(f"the class {owner.__qualname__}, as an attribute", list(vars(owner).values()))]
    if isinstance(owner, types.FunctionType):
        defaults = [*(owner.__defaults__ or ()), *(owner.__kwdefaults__ or {}).values()]
        return [(f"{owner.__qualname__}(), as a default argument", defaults)]
    if isinstance(owner, functools.partial):
        return [("a functools.partial, as an argument", [*owner.args, *owner.keywords.values()])]
    # A module, or the dictionary of its attributes, as Python keeps it.
    contents = owner if type(owner) is dict else vars(owner) if isinstance(owner, nn.Module) else {}
    children = contents.get("_modules")
    if id(children) in containers and type(children) is dict:
        return [("a network outside of this one", list(children.values()))]
    return []
