"""A verdict for continuous integration: JUnit's XML, and the annotations of GitHub Actions."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from undying._base.text import clean
from undying.census.gate import TOTAL, Check, Verdict
from undying.census.results import Census

_ELEMENTS = {"failed": "failure", "unjudged": "error", "skipped": "skipped"}
"""What JUnit calls these; what passed has no element of its own."""


def junit(model: str, census: Census, verdict: Verdict) -> str:
    """A test case for each site, one for the total and one for each other place of a check."""
    labels = {site.name: site.label for site in census.sites} | {TOTAL: TOTAL}
    places = dict.fromkeys([*labels, *(check.place for check in verdict.checks)])
    return _suite(
        [
            _case(model, labels.get(place, place), [check for check in verdict.checks if check.place == place])
            for place in places
        ]
    )


def junit_of_mistake(model: str, said: str) -> str:
    """For a census that could not be made, so that no file of an earlier one is taken for it."""
    return _suite([_case(model, TOTAL, [Check(TOTAL, "unjudged", said)])])


def _suite(cases: Sequence[ElementTree.Element]) -> str:
    counts = {
        f"{kind}s" if kind != "skipped" else kind: str(sum(case.find(kind) is not None for case in cases))
        for kind in _ELEMENTS.values()
    }
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "undying census", "tests": str(len(cases)), **counts})
    suite.extend(cases)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _case(model: str, name: str, checks: Sequence[Check]) -> ElementTree.Element:
    """With one element of what is worst, as readers of JUnit expect, and all that was said below it."""
    case = ElementTree.Element("testcase", {"classname": clean(model), "name": clean(name)})
    for state in ("unjudged", "failed", "skipped"):
        if said := [check.said for check in checks if check.state == state]:
            told = ElementTree.SubElement(case, _ELEMENTS[state], {"message": clean("; ".join(said))})
            told.text = clean("\n".join(said))
            break
    if checks:
        ElementTree.SubElement(case, "system-out").text = clean("\n".join(f"{c.state}: {c.said}" for c in checks))
    return case


def github(verdict: Verdict, warnings: Sequence[str] = ()) -> list[str]:
    """A line for each finding, as the runner of GitHub Actions reads them.

    >>> github(Verdict([Check(TOTAL, "failed", "50 %\\nare dead")]))
    ['::error title=undying census::50 %25%0Aare dead']
    """
    errors = [check.said for state in ("failed", "unjudged") for check in verdict.checks if check.state == state]
    noted = [*(check.said for check in verdict.checks if check.state == "noted"), *warnings]
    passed = ["within the limits"] if verdict.checks and verdict.status == 0 else []
    return [
        f"::{command} title=undying census::{_escaped(said)}"
        for command, lines in (("error", errors), ("warning", noted), ("notice", passed))
        for said in lines
    ]


def _escaped(said: str) -> str:
    return clean(said).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
