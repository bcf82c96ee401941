"""Take back what ``convert_`` put into a network, and say where that changes what it computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from undying.activations import checks
from undying.activations.barelu import BAReLU
from undying.activations.known import functional_forms, targets
from undying.activations.sugar import SUGAR
from undying.census.batches import Method
from undying.treat.change import Before, is_converted, replaced, undo
from undying.treat.convert import refuse_wrapped
from undying.treat.effect import effect_of_reverting
from undying.treat.forwards import Call, Passing, is_built_upon
from undying.treat.named import is_named, undo_names
from undying.treat.report import Effect, RevertReport, RevertRow, revert_table
from undying.treat.same import as_module, is_relu, same_forward

__all__ = ["revert_"]


def revert_(
    model: nn.Module, allow_change: bool = False, check: Iterable[Any] | None = None, *, method: Method = None
) -> RevertReport:
    """Undo every ``convert_`` in ``model``, in place: types and contents as before the first one.

    Hooks, the training flag and what others wrote on the modules stay as they are now. A transformers model that was built by
    the name "sugar" (``hidden_act="sugar"``) becomes the one that "relu" builds, its config included.

    SUGAR in the place of ReLU goes without a change of the forward pass, and so does BAReLU whose ``alpha`` and ``eps`` a
    :class:`undying.StrengthSchedule` took to 0. What else goes changes what the network computes, often beyond use.

    Args:
        model: the network.
        allow_change: go on where the forward pass changes.
        check: batches as :func:`undying.census` takes them, each run before and after in eval mode: the report says by how
            much the output changes at most and, where batches are ``(input, labels)`` or dicts with "labels", what becomes
            of the accuracy. Where no number of the output changes at all, nothing is raised.
        method: what is called with these where it is not the model, as in :func:`undying.census`.

    Returns:
        a :class:`undying.RevertReport`: the number of activations that were taken out, with a row each.

    Raises:
        ValueError: the forward pass would change, without ``allow_change``, and nothing was changed; the model is wrapped or
            compiled; there is nothing to undo, yet it holds SUGAR or BAReLU, with which it was built; a forward was put on
            a converted module itself; ``check`` holds no batch.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> _ = undying.convert_(net, undying.BAReLU())
    >>> undying.revert_(net)
    Traceback (most recent call last):
        ...
    ValueError: revert_ would change what the network computes, at 1 of 1 activations; nothing was changed:
    name  kind    old                 new     forward
    1     module  BAReLU(alpha=0.01)  ReLU()  changes
    Anneal first: undying.StrengthSchedule(model, total_steps), stepped in the last part of the training, ends BAReLU as ReLU, after which revert_ is exact. check=data measures the change; allow_change=True makes it
    >>> schedule = undying.StrengthSchedule(net, total_steps=1)
    >>> schedule.step()  # after each step of the optimizer
    >>> print(undying.revert_(net, check=[torch.randn(4, 2)]))
    name  kind    old                new     forward
    1     module  BAReLU(alpha=0.0)  ReLU()  same
    the output changes by 0 at most
    """
    checks.flag("allow_change", allow_change)
    refuse_wrapped(model, "revert_")
    _refuse_changed(model)
    rows = _rows(model)
    if not rows:
        _refuse_built(model)
    effect = None if check is None else effect_of_reverting(model, check, method)
    unchanged = effect is not None and effect.largest_change == 0
    if not allow_change and not unchanged and any(row.changes for row in rows):
        raise ValueError(_refusal(rows, effect))
    for module in model.modules():  # parents first: what goes with them is not looked into
        undo(module)
    undo_names(model)
    return RevertReport(rows, effect)


def _rows(model: nn.Module) -> tuple[RevertRow, ...]:
    named = is_named(model)
    rows, seen = [], set()
    for name, kind, now, before in replaced(model):
        seen.add(now)
        then = as_module(before)
        shown = "ReLU()" if named and type(then) is SUGAR else _shown(before)
        rows.append(RevertRow(name, kind, repr(now), shown, then is None or not same_forward(now, then)))
    if named:
        rows += [
            RevertRow(name, "module", repr(module), "ReLU()", not same_forward(module, nn.ReLU()))
            for name, module in model.named_modules()
            if isinstance(module, SUGAR) and module not in seen
        ]
    return tuple(rows)


def _shown(before: Before) -> str:
    if isinstance(before, nn.Module):
        return repr(before)
    function = functional_forms(targets()[before.kind])[0] if isinstance(before, Call) else before
    return str(getattr(getattr(function, "func", function), "__name__", function))  # a partial has a func


def _refusal(rows: tuple[RevertRow, ...], effect: Effect | None) -> str:
    changed = tuple(row for row in rows if row.changes)
    if any(row.old.startswith("BAReLU") and row.new.startswith(("ReLU(", "relu")) for row in changed):
        way = (
            "Anneal first: undying.StrengthSchedule(model, total_steps), stepped in the last part of the training, ends BAReLU "
            "as ReLU, after which revert_ is exact. "
        )
    else:
        way = (
            "Only SUGAR, and BAReLU that undying.StrengthSchedule annealed, go without a change, in the place of ReLU: train "
            "with one of these instead. "
        )
    measured = "check=data measures the change" if effect is None else f"Over the data of check {effect}"
    return (
        f"revert_ would change what the network computes, at {len(changed)} of {len(rows)} activations; nothing was "
        f"changed:\n{revert_table(changed)}\n{way}{measured}; allow_change=True makes it"
    )


def _refuse_built(model: nn.Module) -> None:
    """A network that holds SUGAR or BAReLU, of which nothing was converted."""
    for kind in (SUGAR, BAReLU):
        built = [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
        if built:
            raise ValueError(
                f"revert_ found nothing that convert_ did, but the network was built with {len(built)} {kind.__name__}, the "
                f"first being {built[0][0] or 'the network itself'}; undying.convert_(model, nn.ReLU(), "
                f"(undying.{kind.__name__},)) makes them ReLU"
                + ("" if all(is_relu(module) for _, module in built) else ", which computes something else")
            )


def _refuse_changed(model: nn.Module) -> None:
    """What others made of converted modules since, and would not run once they are what they were."""
    for name, module in model.named_modules():
        forward = vars(module).get("forward")
        if is_built_upon(module):
            what = "its class was changed since convert_, as parametrizations do; take that off first"
        elif is_converted(module) and forward is not None and not isinstance(forward, Passing):
            what = (
                "a forward was put on the module itself since convert_, as hooks of accelerate do, and would go on to run this "
                "one; take it off first"
            )
        else:
            continue
        raise ValueError(f"revert_ cannot change {name or 'the network'}, a {type(module).__name__}: {what}")
