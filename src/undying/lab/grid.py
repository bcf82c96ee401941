"""Several values of a numeric option: each arm of a comparison is then judged at its own best."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from undying._base.errors import UndyingError

OPTIONS = {
    "lr": float,
    "weight_decay": float,
    "batch_size": int,
    "momentum": float,
    "warmup": float,
    "label_smoothing": float,
    "clip": float,
    "ema": float,
    "mixup": float,
    "cutmix": float,
    "drop_path": float,
}
"""Those that can have several values, with their types."""

Point = Mapping[str, float]
"""A value of each option of a grid."""


def as_grid(words: Sequence[str]) -> list[str]:
    """A command line in which ``--lr 0.001 0.01`` is ``--grid lr=0.001,0.01``.

    >>> as_grid(["--lr", "0.001", "0.01", "--seeds", "5"])
    ['--seeds', '5', '--grid', 'lr=0.001,0.01']
    """
    kept: list[str] = []
    grids: list[str] = []
    place = 0
    while place < len(words):
        option = words[place].removeprefix("--").replace("-", "_")
        end = place + 1
        while words[place].startswith("--") and option in OPTIONS and end < len(words) and _is_number(words[end]):
            end += 1
        if end - place > 2:
            grids.append(f"{option}={','.join(words[place + 1 : end])}")
        else:
            end = place + 1
            kept.append(words[place])
        place = end
    return [*kept, "--grid", *grids] if grids else kept


def parse(grid: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """By option, its values.

    Raises:
        UndyingError: an option is not known or named twice, or has no two values that are numbers.

    >>> parse(["lr=0.001,0.01", "batch_size=32,64"])
    {'lr': (0.001, 0.01), 'batch_size': (32, 64)}
    """
    values: dict[str, tuple[float, ...]] = {}
    for word in grid:
        option, _, written = word.partition("=")
        option = option.replace("-", "_")
        if option not in OPTIONS or option in values:
            problem = "is named twice" if option in values else f"is none of {', '.join(OPTIONS)}"
            raise UndyingError(f"--grid {word!r}: {option} {problem}")
        try:
            found = tuple(OPTIONS[option](value) for value in written.split(","))
        except ValueError:
            raise UndyingError(
                f"--grid {word!r} must be OPTION=VALUE,VALUE,... with numbers, as in lr=0.001,0.01"
            ) from None
        if len(found) < 2 or len(set(found)) < len(found):
            raise UndyingError(f"--grid {word!r} needs two values or more, each once")
        values[option] = found
    return values


def points(values: Mapping[str, Sequence[float]]) -> list[Point]:
    """Every combination; one without any option where there is no grid.

    >>> points({"lr": (0.1, 0.2), "clip": (0.0, 1.0)})[1], points({})
    ({'lr': 0.1, 'clip': 1.0}, [{}])
    """
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def beyond(values: Sequence[float], chosen: float) -> float | None:
    """The value to add where the chosen one lies at an end: as far again as the one beside it, as a ratio of at most 10. None
    where it lies within, or nothing lies beyond.

    >>> beyond((0.001, 0.003, 0.01), 0.01), beyond((0.001, 0.01), 0.001), beyond((0.001, 0.003, 0.01), 0.003)
    (0.03, 0.0001, None)
    >>> beyond((0.0, 0.1), 0.0), beyond((1e-9, 0.1), 0.1)
    (None, 1.0)
    """
    ordered = sorted(values)
    neighbour = {ordered[0]: ordered[1], ordered[-1]: ordered[-2]}.get(chosen)
    if neighbour is None or chosen == 0:
        return None
    ratio = min(max(chosen / neighbour, 0.1), 10.0) if neighbour else 2.0
    return float(f"{chosen * ratio:.1g}") if isinstance(chosen, float) else round(chosen * ratio) or None


def written(point: Point) -> str:
    """
    >>> written({"lr": 0.01, "weight_decay": 0.0})
    'lr 0.01, weight decay 0'
    """
    return ", ".join(f"{option.replace('_', ' ')} {value:g}" for option, value in point.items())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
