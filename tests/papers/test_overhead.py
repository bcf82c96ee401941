"""Verdicts on planted ratios, and the way of a timing through the store."""

import pytest

from undying._base.errors import UndyingError
from undying.bench.forms import FORMS
from undying.bench.timing import Ratio, Timings
from undying.papers.overhead import (
    PARTS,
    OverheadResult,
    _timed,
    judge,
    read,
    store,
    verdict_of,
)
from undying.papers.tables import TIMED

TABLE = TIMED["barelu-overhead"]


def result(times, scale="small", rounds=40):
    """Every form takes ``times`` (by name, else 1) as long as nn.ReLU, exactly."""
    names = ["nn.ReLU", "nn.ReLU inplace", *TABLE.forms]
    drift = [1 + 0.1 * (i % 7) for i in range(rounds)]
    samples = {name: [times.get(name, 1.0) * d for d in drift] for name in names}
    timings = Timings(samples, dict.fromkeys(names, 1))
    return OverheadResult(scale, tuple(_timed(part, "here", timings) for part in PARTS), {}, {}, 1.0)


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([(0.99, 1.011), (0.9, 1.0)], "supported"),
        ([(0.99, 1.0112), (0.9, 1.0)], "cannot tell at this scale"),
        ([(1.0112, 1.02), (0.9, 1.0)], "not supported"),
        ([], "cannot tell at this scale"),
    ],
)
def test_the_interval_decides(intervals, verdict):
    ratios = [Ratio((low + high) / 2, low, high, 10) for low, high in intervals]
    assert verdict_of(ratios, 1.0111) == verdict


def test_a_form_is_held_against_its_own_kind():
    """Drift of the machine, which both share, does not count."""
    found = judge(TABLE, result({"nn.ReLU inplace": 0.5, "BAReLU inplace": 0.6, "literal BAReLU": 10, "BAReLU": 1.01}))
    verdicts = {(one.form, one.part): (one.to, one.worst[1].value, one.verdict) for one in found}
    for part in PARTS:
        assert verdicts["BAReLU inplace", part] == ("nn.ReLU inplace", pytest.approx(1.2), "not supported")
        assert verdicts["literal BAReLU", part] == ("nn.ReLU", pytest.approx(10), "not supported")
        assert verdicts["BAReLU", part] == ("nn.ReLU", pytest.approx(1.01), "supported")


def test_smoke_judges_nothing():
    assert {one.verdict for one in judge(TABLE, result({}, "smoke"))} == {"cannot tell at this scale"}


def test_stored_and_read_it_is_the_same(tmp_path):
    planted = result({"literal BAReLU": 3.0})
    store(planted, tmp_path / "new" / "x.json")
    assert read(tmp_path / "new" / "x.json") == planted
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UndyingError, match="damaged"):
        read(tmp_path / "x.json")
    with pytest.raises(UndyingError, match="nothing was measured yet"):
        read(tmp_path / "y.json")


def test_what_is_judged_is_what_the_bench_measures():
    known = {form.name for form in FORMS if form.alone and form.network}
    assert set(TABLE.forms) <= known
    for scale in TABLE.scales.values():
        scale.activations.check()
        scale.training.check()
        assert set(TABLE.forms) <= set(scale.activations.forms) <= known
        assert set(TABLE.forms) <= set(scale.training.forms)
