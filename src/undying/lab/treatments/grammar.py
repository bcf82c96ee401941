"""How treatments are spelled: ``ACTIVATION[+PART[:VALUE][:key=value]...]...``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields

from undying._base.errors import UndyingError
from undying.activations.known import SPELLINGS
from undying.lab.activations import REGISTERED
from undying.lab.own_activations import path_of, source_sha256
from undying.lab.treatments.once import Fresh, Recycle
from undying.lab.treatments.part import Part
from undying.lab.treatments.policies import Cbp, Grama, Redo, Snr
from undying.lab.treatments.pulls import Anneal, L2Init, ShrinkPerturb
from undying.lab.treatments.structure import Crelu, LayerNorm
from undying.lab.treatments.treatment import Treatment, built

PARTS: dict[str, type[Part]] = {
    part.name: part for part in (Redo, Cbp, Snr, Grama, Recycle, Fresh, L2Init, LayerNorm, ShrinkPerturb)
}
"""Name in a spec -> the part."""

PLACED = {Crelu.name: (Crelu(), "relu")}
"""What is written in the place of an activation -> the part, and the activation that it changes."""

ANNEALED = ("sugar", "barelu")
"""Activations that can be taken to ReLU."""


def build_treatment(spec: str) -> Treatment:
    """The treatment that ``spec`` names: an activation, with ``anneal=SHARE`` among its arguments if it is to end as ReLU,
    and parts, each after a plus sign.

    One of the user's own, by import path, is not imported here.

    Raises:
        UndyingError: an unknown activation, part or argument, a value out of range, or a part that is named twice.

    >>> build_treatment("sugar:nelu:anneal=0.5+l2init:1e-3").parts
    (L2Init(weight=0.001), Anneal(share=0.5))
    """
    head, *words = re.split(r"\+(?![0-9])", spec)  # not at the plus sign of 1e+3
    activation, own = _activation(head, spec)
    # What changes the activation comes last: a norm stands before the whole of it.
    parts = (*(_part(word, spec) for word in words), *own)
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise UndyingError(f"{spec!r} names the part {name} twice; name it once")
    recycling = [part.name for part in parts if part.recycles]
    if recycling and Crelu.name in names:
        raise UndyingError(f"{spec!r}: {recycling[0]} cannot go with crelu, in which a row of weights makes two units")
    return Treatment(spec, activation, parts)


def own_sources(specs: Iterable[str]) -> dict[str, str]:
    """Of those treatments whose activation or surrogate is the user's own, by import path: the hash of its source file.
    Each is built once, which finds mistakes before anything runs.

    Raises:
        UndyingError: one is not there, or cannot be used.
    """
    found = {}
    for spec in specs:
        treatment = build_treatment(spec)
        if path_of(treatment.activation):
            treatment.build()
            found[spec] = source_sha256(treatment.activation)
    return found


def _activation(head: str, spec: str) -> tuple[str, tuple[Part, ...]]:
    """The activation, and the part that is written with it or in its place."""
    name, *rest = head.split(":")
    if name in PLACED and name not in SPELLINGS:
        if rest:
            raise UndyingError(f"{spec!r}: {name} has no arguments, but {rest[0]!r} is given")
        part, activation = PLACED[name]
        return activation, (part,)
    if name in PARTS and name not in SPELLINGS:
        raise UndyingError(f"{spec!r} begins with a part; write the activation before it, as in relu+{head}")
    own = path_of(head)
    if own and name != "sugar":  # looked at where it is needed: a report does without its file
        return head, ()
    if name not in SPELLINGS:
        known = ", ".join((*SPELLINGS, *PLACED))
        raise UndyingError(f"unknown activation {name!r} in {spec!r}; known: {known}; {REGISTERED}")
    shares = [word for word in rest if word.startswith("anneal=")]
    if not shares or "anneal" in inspect.signature(SPELLINGS[name]).parameters:
        if not own:
            built(head)
        return head, ()
    if name not in ANNEALED:
        raise UndyingError(f"{spec!r}: anneal goes with {' and '.join(ANNEALED)}, which end as ReLU; {name} cannot")
    if len(shares) > 1:
        raise UndyingError(f"{spec!r} gives anneal twice; give it once")
    activation = ":".join([name, *(word for word in rest if word not in shares)])
    if not own:
        built(activation)
    return activation, (_built(Anneal, {"share": shares[0].removeprefix("anneal=")}, spec),)


def _part(word: str, spec: str) -> Part:
    name, *rest = word.split(":")
    if name not in PARTS:
        activations = "; an activation comes first, before any plus sign" if name in SPELLINGS else ""
        raise UndyingError(f"unknown part {name!r} in {spec!r}; known: {', '.join(PARTS)}{activations}")
    kind = PARTS[name]
    given: dict[str, str] = {}
    for argument in rest:
        key, equals, value = argument.partition("=")
        if not equals:
            key, value = kind.main, argument
            if not key:
                raise UndyingError(f"{spec!r}: {name} takes no value, but {argument!r} is given")
        if key in given:
            raise UndyingError(f"{spec!r} gives {name} {key} twice; give it once")
        given[key] = value
    return _built(kind, given, spec)


def _built(kind: type[Part], given: dict[str, str], spec: str) -> Part:
    """The part with these arguments, of the types of its fields."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, word in given.items():
        if key not in known:
            having = ", ".join(known) or "none"
            raise UndyingError(f"{spec!r}: {kind.name} has no argument {key!r}; known: {having}")
        values[key] = _value(known[key].type, word, f"{spec!r}: {kind.name} {key}")
    try:
        return kind(**values)
    except ValueError as error:
        raise UndyingError(f"{spec!r}: {kind.name}: {error}") from None


def _value(kind: object, word: str, what: str) -> float | int | str:
    if kind == "str":
        return word
    try:
        return int(word) if kind == "int" else float(word)
    except ValueError:
        raise UndyingError(f"{what} must be a {'whole ' if kind == 'int' else ''}number, not {word!r}") from None
