"""How scores that exist already are read: the options of ``undying report --from``."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from undying._base.errors import UndyingError

_BY_CONVENTION = re.compile(r"(?P<arm>.+?)[-_ /.,]+seed[-_ =:]*(?P<seed>\d+)(?:[-_ /.,].*)?", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """What of the files to compare, and what it means."""

    baseline: str = ""
    """With --from: the arm that the others are compared with; default: the first in the files."""
    metric: tuple[str, ...] = ()
    """With --from: metrics to compare, by their names in the files; the first decides. Default: all of a file in long format.
    Name them for W&B and TensorBoard, where a run has many."""
    lower_is_better: tuple[str, ...] = ()
    """With --from: metrics of which less is better, such as loss; of all others more is."""
    share: tuple[str, ...] = ()
    """With --from: metrics that are shares in [0, 1], which are written in percent."""
    margin: float = 0.0
    """With --from: the smallest difference that matters, in the unit of the first metric, of a share in points. 0: none."""
    run_name: str = ""
    """With --from: how the name of a run tells its arm and seed, such as '{arm}/run_{seed}' or '{arm}-s{seed}-*', where *
    is anything. Default: an arm, 'seed' and a number, as in relu-seed3 or relu/seed_3/version_0."""
    arm_column: str = ""
    """With --from: column of the arm in a W&B table of a row a run; default: arm or activation."""
    seed_column: str = ""
    """With --from: column of the seed in such a table; default: seed."""

    def __post_init__(self) -> None:
        if not isinstance(self.margin, int | float) or not 0 <= self.margin < math.inf:
            raise UndyingError(f"--margin must be a number of at least 0, not {self.margin}")
        if self.run_name and not (self.run_name.count("{arm}") == self.run_name.count("{seed}") == 1):
            raise UndyingError(f"--run-name must have {{arm}} and {{seed}} once each, not {self.run_name!r}")
        for name in ("metric", "lower_is_better", "share"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise UndyingError(f"--{name.replace('_', '-')} names a metric twice: {' '.join(given)}")

    def run(self, name: str, place: str) -> tuple[str, int]:
        """Arm and seed of a run by its name.

        >>> Reading().run("leaky_relu-seed3-ab12", "the file")
        ('leaky_relu', 3)
        >>> Reading(run_name="{arm}/run_{seed}").run("relu/run_12", "the file")
        ('relu', 12)

        Raises:
            UndyingError: it does not tell.
        """
        found = (_pattern(self.run_name) if self.run_name else _BY_CONVENTION).fullmatch(name)
        if found is None:
            said = f"does not fit --run-name {self.run_name!r}" if self.run_name else "does not tell its arm and seed"
            raise UndyingError(
                f"{place}: the run {name!r} {said}; give a pattern that fits all runs, as in --run-name '{{arm}}-s{{seed}}'"
            )
        return found["arm"], int(found["seed"])

    def chosen(self, found: Iterable[str], place: str) -> list[str]:
        """Which of the metrics in a file to read, where there are too many to take all.

        Raises:
            UndyingError: there are several, and none is named.
        """
        names = list(dict.fromkeys(found))
        if self.metric:
            return [name for name in self.metric if name in names]
        if len(names) == 1:
            return names
        some = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise UndyingError(f"{place} has {len(names)} metrics; choose with --metric: {some or 'none'}")

    def command(self, paths: Sequence[Path], out: Path) -> str:
        """The command line that reads these files so."""
        return shlex.join(["undying", "report", str(out), "--from", *map(str, paths), *self.given()])

    def given(self) -> list[str]:
        """The options that are not at their defaults, as on the command line."""
        words = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value != f.default:
                words += [f"--{f.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
        return words


def _pattern(written: str) -> re.Pattern[str]:
    parts = {"{arm}": "(?P<arm>.+?)", "{seed}": r"(?P<seed>\d+)", "*": ".*"}
    words = re.split(r"(\{arm\}|\{seed\}|\*)", written)
    return re.compile("".join(parts.get(word, re.escape(word)) for word in words), re.DOTALL)
