"""Shared by the tests of policies."""

import weakref

import pytest

from undying.treat.policies.recycler import Recycler


@pytest.fixture(autouse=True)
def every_recycler_is_closed(monkeypatch):
    """One that looks at each step would keep what is compiled from running in later tests.
    A test that raised may be held by what it raised."""
    made, make = weakref.WeakSet(), Recycler.__init__

    def noted(self, *args, **settings):
        make(self, *args, **settings)
        made.add(self)

    monkeypatch.setattr(Recycler, "__init__", noted)
    yield
    for each in list(made):
        each.close()
