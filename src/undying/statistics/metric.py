"""A number that runs are judged by: its name, its direction, its unit, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from undying._base.text import known

_NOTHING = 1e-9
"""A difference below this share of its interval is one of rounding."""


@dataclass(frozen=True)
class Metric:
    """Any real number, one a run.

    >>> rmse = Metric("rmse", "test RMSE", higher_is_better=False, unit="mg/dl")
    >>> rmse.written(54.321), rmse.column, rmse.differences(-2.31, -4.0, -0.6)
    ('54.32 mg/dl', 'Test RMSE (mg/dl)', ['-2.3', '-4.0', '-0.6'])
    >>> ACCURACY.written(0.97163), ACCURACY.differences(0.0042)
    ('97.2 %', ['0.4'])
    """

    name: str
    """A word, for columns and keys."""
    title: str = ""
    """In a sentence; default: the name."""
    higher_is_better: bool | None = True
    """None where neither direction is praise."""
    unit: str = ""
    """After the number, such as mg/dl."""
    share: bool = False
    """Whether it is a share in [0, 1], which is written in percent, and its differences in points."""
    function: Callable[[Any, Any], Any] | None = field(default=None, repr=False, compare=False)
    """Of all outputs and targets of the test data, each along the first axis: the value."""
    more: str = "{title} is higher than {baseline}'s by"
    fewer: str = "{title} is lower than {baseline}'s by"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"the name of a metric must be a word of letters, digits and _, not {self.name!r}")
        if not self.title:
            object.__setattr__(self, "title", self.name)

    def by(self, function: Callable[[Any, Any], Any]) -> Metric:
        """The same with its function."""
        return replace(self, function=function)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the function: ``Metric(**metric.to_dict()) == metric``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "function"}

    @property
    def factor(self) -> float:
        """From its value to the number that is written."""
        return 100.0 if self.share else 1.0

    def margin_of(self, written: float) -> float | None:
        """A margin as users write it, of a share in points, in the unit of the values; None for 0, which is none.

        Raises:
            ValueError: a share cannot differ by so much.
        """
        if self.share and written >= 100:
            raise ValueError(f"--margin is in points of {self.title}, below 100, not {written:g}")
        return written / self.factor or None

    @property
    def heading(self) -> str:
        """Its title as the beginning of a line."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def written_unit(self) -> str:
        """After a value; empty where it has none."""
        return "%" if self.share else self.unit

    @property
    def column(self) -> str:
        """Heading of a column of its numbers."""
        return f"{self.heading} ({self.written_unit})" if self.written_unit else self.heading

    @property
    def difference_unit(self) -> str:
        """After a difference; empty where it has none."""
        return f"points {self.unit}".rstrip() if self.share else self.unit

    def number(self, value: float) -> str:
        """A value without its unit: a share in percent with one decimal, else four digits."""
        return f"{100 * value:.1f}" if self.share else f"{value:.4g}"

    def written(self, value: float | None) -> str:
        """A value with its unit; a dash for one that is not known."""
        return f"{self.number(value)} {self.written_unit}".rstrip() if known(value) else "–"

    def differences(self, difference: float, *others: float) -> list[str]:
        """A difference, and numbers beside it with as many decimals.

        A share's have one, or as many as the difference needs to show a digit other than 0; others show two digits. A
        difference that is 0 beside the others has the decimals of the largest of them.
        """
        largest = abs(self.factor) * max(map(abs, (difference, *others)))
        size = abs(self.factor * difference)
        size = size if size > _NOTHING * largest else largest
        if not self.share and size and not 1e-6 <= size < 1e9:
            return [f"{value:.2g}" for value in (difference, *others)]
        exponent = math.floor(math.log10(size)) if size else 0
        decimals = min(max(1, -exponent) if self.share else max(0, 1 - exponent), 7) if size else 1
        # + 0.0 turns -0.0 into 0.0
        return [f"{round(self.factor * value, decimals) + 0.0:.{decimals}f}" for value in (difference, *others)]

    def praise(self, higher: bool) -> str:
        """``"better"`` or ``"worse"``; empty where neither direction is."""
        return "" if self.higher_is_better is None else "better" if higher == self.higher_is_better else "worse"


SUMMARY = (
    *("n", "mean", "low", "high", "iqm"),
    *(
        "pairs",
        "difference",
        "difference_low",
        "difference_high",
        "p",
        "p_holm",
        "p_equal",
        "margin",
        "effect_size",
        "verdict",
    ),
)
"""What is said of a metric of one arm, in the order of the columns of a table: ``NAME_n`` and so on."""


def clash(names: Sequence[str]) -> tuple[str, str] | None:
    """Two metrics of which two columns would have the same name, if there are any.

    >>> clash(["acc", "f1"]), clash(["acc", "f1", "acc_difference"])
    (None, ('acc', 'acc_difference'))
    """
    columns: dict[str, str] = {}
    for name in names:
        for column in (f"{name}_{ending}" for ending in SUMMARY):
            if columns.setdefault(column, name) != name:
                return columns[column], name
    return None


ACCURACY = Metric("accuracy", "test accuracy", share=True)
SILENT = Metric(
    "silent",
    "share of silent units",
    higher_is_better=None,
    unit="of all units",
    share=True,
    more="more silent units than {baseline}, by",
    fewer="fewer silent units than {baseline}, by",
)
