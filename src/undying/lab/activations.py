"""Activations by name, as the command line and the stored configs spell them.

A spec is ``name[:surrogate][:key=value]...``: ``relu``, ``sugar``, ``sugar:nelu:a=0.1``, ``barelu:eps=0.01``.
``sugar:scale=unit`` divides the surrogate by the mean of its derivative over the positive side. One's own go by import
path, see :mod:`undying.lab.own_activations`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import nn

from undying._base.errors import UndyingError
from undying.activations.known import SPELLINGS
from undying.activations.sugar import SUGAR
from undying.lab.own_activations import check_arguments, own_activation, own_surrogate, path_of
from undying.surrogates import SURROGATES, Surrogate, surrogate, unit_scaled

REGISTERED = (
    "one of your own is package.module:name, or known where undying.register_activation or undying.register_surrogate was "
    "called, in a worker process if the module of --model or --data does it"
)


def build_activation(spec: str) -> nn.Module:
    """The module that ``spec`` names.

    Raises:
        UndyingError: an unknown name, surrogate or argument, or a value out of range.

    >>> build_activation("sugar:nelu:a=0.1")
    SUGAR(nelu(a=0.1))
    """
    path = path_of(spec)
    name, *rest = (path, *spec.split(":")[2:]) if path and not spec.startswith("sugar:") else spec.split(":")
    if not path and name not in SPELLINGS:
        raise UndyingError(f"unknown activation {name!r} in {spec!r}; known: {', '.join(SPELLINGS)}; {REGISTERED}")
    arguments = dict(_argument(word) for word in rest if "=" in word)
    bare = [word for word in rest if "=" not in word]
    try:
        if name == "sugar":
            return _sugar([path, *bare[2:]] if path else bare, arguments)
        if bare:
            own = f"; a module called {name} is given as package.{name}:{bare[0]}, or by another name" * (not path)
            raise ValueError(f"{bare[0]!r} is no argument; write key=value{own}")
        if path:
            return own_activation(path, arguments)
        check_arguments(SPELLINGS[name], arguments)
        return SPELLINGS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise UndyingError(f"activation {spec!r}: {error}") from None


def _sugar(bare: list[str], arguments: dict[str, Any]) -> nn.Module:
    """SUGAR takes at most one surrogate's name; what the surrogate has of the arguments goes to it."""
    if len(bare) > 1:
        own = f"; a module called {bare[0]} is given as package.{bare[0]}:{bare[1]}, or by another name"
        raise ValueError(f"name one surrogate, not {' and '.join(bare)}{own}")
    kind = bare[0] if bare else "bsilu"
    if ":" in kind:
        chosen, used = own_surrogate(kind, arguments)
        return _scaled(chosen, used, arguments)
    if kind not in SURROGATES:
        raise ValueError(f"unknown surrogate {kind!r}; known: {', '.join(SURROGATES)}; {REGISTERED}")
    having: set[str] = {f.name for f in fields(SURROGATES[kind])}  # type: ignore[arg-type]
    return _scaled(surrogate(kind, **{key: arguments[key] for key in having & arguments.keys()}), having, arguments)


def _scaled(chosen: Surrogate, own: set[str], arguments: dict[str, Any]) -> nn.Module:
    """SUGAR with this surrogate, whose own arguments are named, and with the others."""
    if "scale" in arguments and "scale" not in own:
        scale = arguments.pop("scale")
        if scale != "unit":
            raise ValueError(f"scale must be 'unit', not {scale!r}")
        chosen = unit_scaled(chosen)
    return SUGAR(chosen, **{key: value for key, value in arguments.items() if key not in own})


def _argument(word: str) -> tuple[str, float | str]:
    key, _, value = word.partition("=")
    try:
        return key, float(value)
    except ValueError:
        return key, value
