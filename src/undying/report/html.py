"""The page: one file that asks for nothing else, in light and dark, for screen, phone and paper."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from undying._base.text import clean, isolated, known
from undying.lab.grid import written
from undying.lab.results import ActivationResult, Results, SiteHistory
from undying.plots.theme import THEME, variable_of
from undying.report import words
from undying.report.drawing import Figure
from undying.report.figures import FEW, FIRST
from undying.report.method import method
from undying.statistics.metric import SILENT

SCRIPT = files("undying.report").joinpath("page.js").read_text(encoding="utf-8")
"""Of every page that has tables and figures; the page's policy lets the browser run this text and no other."""


@functools.cache
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
        words.moment,
        words.percent,
        words.points,
        words.praise,
        written,
        words.signed,
        words.probability,
        words.ratio,
        words.mean_share,
        words.minus,
        words.paired,
    ):
        pages.filters[function.__name__] = function
    pages.filters["plain"] = plain
    pages.filters["verbatim"] = _verbatim
    pages.filters["data"] = _data
    pages.filters["counted"] = _counted
    pages.globals |= {
        "verdicts_in_words": words.VERDICTS,
        "verdict": words.verdict,
        "progress": words.progress,
        "noun": words.noun,
        "seconds_ratio": words.seconds_ratio,
        "few": FEW,
        "interval": words.interval,
        "exact": _exact,
        "alike": _alike,
        "colour_of": variable_of,
        # Ours: nothing that a results object holds is part of it.
        "script": Markup(f"<script>{SCRIPT}</script>"),
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        "silent_metric": SILENT,
    }
    pages.tests["known"] = known
    return pages


def page(results: Results, figures: Sequence[Figure], live: str = "") -> str:
    """The whole HTML document; ``live`` is a comment that stands where runs that are still trained are shown."""
    # matplotlib wrote the SVG and escaped every text in it. Beside our script nothing else goes into the page as markup.
    placed_all = [(figure, Markup(figure.page)) for figure in figures]
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
            first=[placed for placed in placed_all if placed[0].name == FIRST],
            figures=[placed for placed in placed_all if placed[0].name != FIRST],
            theme=THEME,
            live=Markup(live),
        )
    )


def _printable(value: Any) -> Any:
    """Applied to whatever the template prints."""
    return isolated(clean(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _verbatim(text: str) -> Markup:
    """What is copied from the page, and must hold no sign of ours; its element is set apart by the style sheet."""
    return escape(clean(text))


def _exact(values: Sequence[float | None], factor: float = 1.0) -> Markup:
    """Of a cell: its numbers in full, which the page's script saves as CSV; a number that is not known ends them.

    >>> str(_exact([0.123456789, 0.1], 100)), str(_exact([None, 1]))
    (' data-exact="12.3456789 10"', '')
    """
    numbers = [f"{factor * value:.15g}" for value in itertools.takewhile(known, values) if value is not None]
    return Markup(f' data-exact="{" ".join(numbers)}"' if numbers else "")


def _counted(number: int, noun: str) -> str:
    """
    >>> _counted(1, "run"), _counted(1437, "sample")
    ('1 run', '1,437 samples')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _below_name(sentence: str, name: str) -> str:
    """A sentence under a heading that is the name already, with the minus of the tables.

    >>> _below_name("relu6: no difference detected", "relu6")
    'No difference detected.'
    """
    said = re.sub(r"(?<=[ (\[])-(?=\d)", words.MINUS, sentence.removeprefix(f"{name}: "))
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


def _data(value: Any) -> Markup:
    """Plain data for the page's script, in an element that no browser runs; nothing in it can end the element.

    >>> print(_data({"site": "</script>"}))
    {"site":"\\u003c/script\\u003e"}
    """
    said = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(said.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _alike(results: Results) -> list[tuple[list[ActivationResult], list[str]]]:
    """What is said of the activations beside the baseline, each sentence a paragraph; those of whom the same is said are
    together."""
    metrics = [metric.name for metric in results.metrics]
    nothing = (
        "It has no seed that the baseline has too."
        if results.imported
        else "No seed is finished that the baseline has too."
    )
    groups: dict[tuple[str, ...], list[ActivationResult]] = {}
    for other in results.activations[1:]:
        found = other.comparisons
        said = [_below_name(found[name].sentence, other.name) for name in (*metrics, SILENT.name) if name in found]
        groups.setdefault(tuple(said if other.comparison else [nothing, *said]), []).append(other)
    return [(others, list(said)) for said, others in groups.items()]


def _layers(results: Results) -> list[tuple[str, int, list[SiteHistory | None]]]:
    """A row a site: its name, its units, and its history in each activation that has it."""
    by_name = [{site.name: site for site in activation.sites} for activation in results.activations]
    # A dict keeps the order of the layers, baseline first.
    units = {name: site.units for sites in reversed(by_name) for name, site in sites.items()}
    order = dict.fromkeys(name for sites in by_name for name in sites)
    return [(name, units[name], [sites.get(name) for sites in by_name]) for name in order]
