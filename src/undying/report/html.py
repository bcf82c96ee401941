"""The page: one file that asks for nothing else, in light and dark, for screen, phone and paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from undying._base.text import clean, known
from undying.lab.grid import written
from undying.lab.results import Results, SiteHistory
from undying.plots.theme import THEME
from undying.report import words
from undying.report.figures import FEW, Figure
from undying.report.method import method
from undying.statistics.metric import SILENT


def environment() -> Environment:
    """jinja2 for every page: everything that it prints is cleaned and escaped."""
    pages = Environment(
        loader=PackageLoader("undying", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    for function in (
        words.percent,
        words.points,
        words.praise,
        written,
        words.signed,
        words.probability,
        words.ratio,
        words.mean_share,
    ):
        pages.filters[function.__name__] = function
    pages.filters["plain"] = plain
    pages.filters["counted"] = _counted
    pages.filters["below_name"] = _below_name
    pages.globals |= {
        "verdicts_in_words": words.VERDICTS,
        "verdict": words.verdict,
        "progress": words.progress,
        "noun": words.noun,
        "seconds_ratio": words.seconds_ratio,
        "few": FEW,
        "silent_metric": SILENT,
    }
    pages.tests["known"] = known
    return pages


def page(results: Results, figures: Sequence[Figure]) -> str:
    """The whole HTML document."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            baseline=words.product_name(results.baseline.name),
            lead=words.lead(results),
            layers=_layers(results),
            method=method(results),
            environment={"undying": results.undying, **results.environment},
            # matplotlib wrote the SVG and escaped every text in it. Nothing else goes into the page as markup.
            figures=[(figure, Markup(figure.page)) for figure in figures],
            theme=THEME,
        )
    )


def _printable(value: Any) -> Any:
    """Applied to whatever the template prints."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _counted(number: int, noun: str) -> str:
    """
    >>> _counted(1, "run"), _counted(1437, "sample")
    ('1 run', '1,437 samples')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _below_name(sentence: str, name: str) -> str:
    """A sentence under a heading that is the name already.

    >>> _below_name("relu6: no difference detected", "relu6")
    'No difference detected.'
    """
    said = sentence.removeprefix(f"{name}: ")
    return f"{said[:1].upper()}{said[1:]}".rstrip(".") + "."


def plain(value: Any) -> str:
    """A setting as a person would write it.

    >>> plain([1, 2]), plain({"lr": 0.01}), plain(None)
    ('1, 2', 'lr 0.01', 'none')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    return "none" if value is None else str(value)


def _layers(results: Results) -> list[tuple[str, int, list[SiteHistory | None]]]:
    """A row a site: its name, its units, and its history in each activation that has it."""
    by_name = [{site.name: site for site in activation.sites} for activation in results.activations]
    # A dict keeps the order of the layers, baseline first.
    units = {name: site.units for sites in reversed(by_name) for name, site in sites.items()}
    order = dict.fromkeys(name for sites in by_name for name in sites)
    return [(name, units[name], [sites.get(name) for sites in by_name]) for name in order]
