"""Scores of runs that exist already, from files of others, as the results of a comparison."""

from undying.scores.read import read_scores
from undying.scores.reading import Reading

__all__ = ["Reading", "read_scores"]
