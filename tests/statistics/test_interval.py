"""A number with its interval, in words."""

from undying.statistics.interval import Interval
from undying.statistics.summaries import summarise


def test_ends_are_written_as_the_number_is() -> None:
    found = Interval(0.1234, 0.1, 0.2, 5)
    assert found.in_words("{:.2f}".format) == "0.12 (0.10 to 0.20)"
    assert found.in_words("{:.1%}".format, " [{}, {}]") == "12.3% [10.0%, 20.0%]"


def test_without_an_interval_the_number_stands_alone() -> None:
    assert Interval(-2.0, None, None, 1).in_words("{:+.1f}".format) == "-2.0"


def test_a_summary_has_the_interval_of_its_mean() -> None:
    summary = summarise([0.25, 0.5, 0.75])
    assert summary.interval == Interval(0.5, summary.low, summary.high, 3)
    assert summarise([0.5]).interval == Interval(0.5, None, None, 1)
