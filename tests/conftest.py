"""Shared by every test."""

from hypothesis import settings

# No deadline: no test may depend on the clock. The same examples in every run, so that a failure is found again.
settings.register_profile("undying", deadline=None, derandomize=True, database=None)
settings.load_profile("undying")
