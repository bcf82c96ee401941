"""What a run of a trial says, from the lines that its training wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from undying.lab.cartpole import MOST
from undying.lab.collect import last_counted, share
from undying.lab.dying import DyingRun
from undying.lab.settings import AnyRun

_Values = dict[str, float]
_Curves = dict[str, tuple[float | None, ...]]
_Lines = Sequence[dict[str, Any]]


def measured(config: AnyRun, lines: _Lines) -> tuple[_Values, _Curves]:
    """What the lines of metrics.jsonl say of a trial's run: numbers and curves by metric, as shares in [0, 1].

    ``score`` is the final return over the most there is (CartPole), or the test accuracy (dying networks); that of a run
    that diverged is 0, or that of guessing. ``validation`` is the same on what was held out.
    """
    return _of_dying(config, lines) if isinstance(config, DyingRun) else _of_cartpole(lines)


def _of_cartpole(lines: _Lines) -> tuple[_Values, _Curves]:
    returns = [line["return"] / MOST for line in lines if line["return"] is not None]
    counted = last_counted(lines)
    values = {
        "score": lines[-1].get("test_return", 0.0) / MOST,
        "validation": lines[-1].get("validation_return", 0.0) / MOST,
        "area": sum(returns) / len(returns) if returns else 0.0,
        **{f"{network}_silent": _or_nan(_silent(counted, network)) for network in ("policy", "value")},
    }
    curves: _Curves = {
        "over": tuple(line["steps"] for line in lines),
        "return": tuple(None if line["return"] is None else line["return"] / MOST for line in lines),
        "dead": tuple(share(line, "dead") for line in lines),
        **{f"{network}_silent": tuple(_silent(line, network) for line in lines) for network in ("policy", "value")},
    }
    return values, curves


def _of_dying(config: DyingRun, lines: _Lines) -> tuple[_Values, _Curves]:
    # The last epoch of each task that was begun with the activation in place.
    ends = [end * config.epochs // config.tasks for end in range(1, config.tasks + 1)]
    ends = [end for end in ends if end - config.epochs // config.tasks >= config.relu_epochs] or ends[-1:]
    guessing = 0.1
    by_epoch = {line["epoch"]: line["test_accuracy"] for line in lines if line["test_accuracy"] is not None}
    revived = [line["revived"] / max(line["silent_before"], 1) if "revived" in line else None for line in lines]
    at = config.relu_epochs
    values = {
        "score": by_epoch.get(config.epochs, guessing),
        "validation": math.nan,  # nothing is held out, since there is no rate to choose
        "online": sum(by_epoch.get(end, guessing) for end in ends) / len(ends),
        # What diverged has brought nobody back.
        "revived_at_once": _at(revived, at),
        "revived_soon": _at(revived, at + 1),
        "revived": _at(revived, config.epochs),
    }
    curves: _Curves = {
        "over": tuple(line["epoch"] for line in lines),
        "accuracy": tuple(line["test_accuracy"] for line in lines),
        "silent": tuple(share(line, "silent") for line in lines),
        "revived": tuple(revived),
    }
    return values, curves


def _silent(line: dict[str, Any], network: str) -> float | None:
    """Share of silent units of the policy's or the value's network."""
    sites = [site for site in line.get("sites", ()) if f".{network}_net." in site["name"]]
    return share({"sites": sites}, "silent")


def _at(revived: Sequence[float | None], epoch: int) -> float:
    return (revived[epoch] if epoch < len(revived) else None) or 0.0


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
