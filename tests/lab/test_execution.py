"""How runs are executed, and what cannot be."""

import os

import pytest

from undying._base.errors import UndyingError
from undying.lab.execution import Execution


def test_workers_are_as_many_as_fit_with_their_devices(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(7), raising=False)
    assert [Execution(devices=devices).runs_at_once for devices in (1, 2, 3, 8)] == [7, 3, 2, 1]
    assert Execution(devices=4, workers=5).runs_at_once == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"devices": 0}, "--devices must be at least 1, not 0"),
        ({"devices": 2, "device": "meta"}, "--devices 2 goes with --device cpu or cuda, not 'meta'"),
    ],
)
def test_devices_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(UndyingError, match=message):
        Execution(**wrong)
