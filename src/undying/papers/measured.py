"""What a run of a trial says, from the lines that its training wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from undying.lab.collect import last_counted, share
from undying.lab.runs.cartpole import MOST
from undying.lab.runs.dying import DyingRun
from undying.lab.settings import AnyRun

_Values = dict[str, float]
_Curves = dict[str, tuple[float | None, ...]]
_Lines = Sequence[dict[str, Any]]


def measured(config: AnyRun, lines: _Lines) -> tuple[_Values, _Curves]:
    """What the lines of metrics.jsonl say of a trial's run: numbers and curves by metric, as shares in [0, 1].

    ``score`` is the final return over the most there is (CartPole), or the test accuracy (dying networks); that of a run
    that diverged is 0, or that of guessing. ``validation`` is the same on what was held out; of a network that learns task
    after task, the mean over their ends, so that a rate is chosen at which it keeps learning.
    """
    return _of_dying(config, lines) if isinstance(config, DyingRun) else _of_cartpole(lines)


def _of_cartpole(lines: _Lines) -> tuple[_Values, _Curves]:
    returns = [line["return"] / MOST for line in lines if line["return"] is not None]
    counted = last_counted(lines)
    values = {
        "score": lines[-1].get("test_return", 0.0) / MOST,
        "validation": lines[-1].get("validation_return", 0.0) / MOST,
        "area": sum(returns) / len(returns) if returns else 0.0,
        **{f"{network}_silent": or_nan(_silent(counted, network)) for network in ("policy", "value")},
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
    revived = [line["revived"] / max(line["silent_before"], 1) if "revived" in line else None for line in lines]
    at = config.relu_epochs
    values = {
        "score": _accuracy(lines, "test", [config.epochs]),
        "validation": _accuracy(lines, "validation", ends),
        "online": _accuracy(lines, "test", ends),
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


def _accuracy(lines: _Lines, part: str, epochs: Sequence[int]) -> float:
    """Mean over ``epochs``; a network that has diverged guesses one of ten from then on."""
    known = {line["epoch"]: line.get(f"{part}_accuracy") for line in lines}
    found = [known.get(epoch) for epoch in epochs]
    return sum(0.1 if accuracy is None else accuracy for accuracy in found) / len(epochs)


def _silent(line: dict[str, Any], network: str) -> float | None:
    """Share of silent units of the policy's or the value's network."""
    sites = [site for site in line.get("sites", ()) if f".{network}_net." in site["name"]]
    return share({"sites": sites}, "silent")


def _at(revived: Sequence[float | None], epoch: int) -> float:
    return (revived[epoch] if epoch < len(revived) else None) or 0.0


def or_nan(value: float | None) -> float:
    """A share that is not known is no number."""
    return math.nan if value is None else value
