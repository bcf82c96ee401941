"""Reproduce: each table of the papers as a declaration, expanded to runs of the lab, and what the runs say of its claims.

table -> plan -> (the lab's executors and store) -> results -> analysis; ``undying.papers.page`` writes the page.
"""
