"""From numbers, one a run, to verdicts: pure functions that know no run. How and why: ``docs/statistics.md``."""
