"""What the pages show beside accuracies, by name."""

import planted
from undying.papers.details import SECTIONS, read_sections
from undying.papers.plan import make_plan
from undying.papers.tables import TABLES


def test_each_is_shown_by_a_table():
    assert {table.shows for table in TABLES.values() if table.shows} == SECTIONS.keys()


def test_without_runs_there_is_nothing_to_show():
    for table in TABLES.values():
        if table.shows:
            assert read_sections(table, make_plan(table.scales["smoke"]), (), None) == ((), ())


def test_a_table_that_shows_accuracies_alone_reads_no_files():
    table = TABLES["sugar-cifar10"]
    plan = make_plan(table.scales["smoke"])
    results = planted.results(plan, lambda run: 0.5)
    assert read_sections(table, plan, results, None) == (results, ())
