"""Activations by name, as the command line and the stored configs spell them.

A spec is ``name[:surrogate][:key=value]...``: ``relu``, ``sugar``, ``sugar:nelu:a=0.1``, ``barelu:eps=0.01``.
``sugar:scale=unit`` divides the surrogate by the mean of its derivative over the positive side.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from torch import nn

from undying._base.errors import UndyingError
from undying.activations.known import SPELLINGS
from undying.activations.sugar import SUGAR
from undying.surrogates import SURROGATES, surrogate, unit_scaled

REGISTERED = (
    "one of your own is known where undying.register_activation or undying.register_surrogate was called, in a worker "
    "process if the module of --model or --data does it"
)


def build_activation(spec: str) -> nn.Module:
    """The module that ``spec`` names.

    Raises:
        UndyingError: an unknown name, surrogate or argument, or a value out of range.

    >>> build_activation("sugar:nelu:a=0.1")
    SUGAR(nelu(a=0.1))
    """
    name, *rest = spec.split(":")
    if name not in SPELLINGS:
        raise UndyingError(f"unknown activation {name!r} in {spec!r}; known: {', '.join(SPELLINGS)}; {REGISTERED}")
    arguments = dict(_argument(word) for word in rest if "=" in word)
    bare = [word for word in rest if "=" not in word]
    try:
        if name == "sugar":
            return _sugar(bare, arguments)
        if bare:
            raise ValueError(f"{bare[0]!r} is no argument; write key=value")
        parameters = inspect.signature(SPELLINGS[name]).parameters
        for key, value in arguments.items():
            # torch's own take anything, and fail when they are first called.
            if key in parameters and {type(value), type(parameters[key].default)} in ({str, int}, {str, float}):
                raise ValueError(f"{key}={value} must be {'a number' if isinstance(value, str) else 'a word'}")
        return SPELLINGS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise UndyingError(f"activation {spec!r}: {error}") from None


def _sugar(bare: list[str], arguments: dict[str, Any]) -> nn.Module:
    """SUGAR takes at most one surrogate's name; what the surrogate has of the arguments goes to it."""
    if len(bare) > 1:
        raise ValueError(f"name one surrogate, not {' and '.join(bare)}")
    kind = bare[0] if bare else "bsilu"
    if kind not in SURROGATES:
        raise ValueError(f"unknown surrogate {kind!r}; known: {', '.join(SURROGATES)}; {REGISTERED}")
    own = {f.name for f in fields(SURROGATES[kind])}  # type: ignore[arg-type]
    chosen = surrogate(kind, **{key: value for key, value in arguments.items() if key in own})
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
