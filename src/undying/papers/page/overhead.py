"""The page of a table of wall-clock ratios."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from undying._base.files import write_text
from undying._base.text import duration, markdown
from undying.bench.forms import BASELINE
from undying.papers.overhead import PARTS, Judged, Overhead, OverheadResult, Timed, judge
from undying.papers.page.cells import bullets
from undying.papers.page.figures import placed
from undying.papers.page.html import html_page
from undying.plots.dots import Cases, ratios
from undying.plots.theme import colour_of, styled
from undying.report.drawing import Figure
from undying.report.words import MISSING

RATIO = "{:.3f}".format


def write_overhead(table: Overhead, result: OverheadResult, out: Path) -> Path:
    """Write ``<name>.md``, the same as ``<name>.html`` and its figure into ``out``, the page last.

    Raises:
        OSError: a file cannot be written.
    """
    file = f"{table.name}.ratios.svg"
    figure = _figure(table, result, file)
    text = page(table, result, f"![{figure.alt}]({file})")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / file, figure.file)
    write_text(out / f"{table.name}.html", html_page(text, {file: figure}))
    write_text(out / f"{table.name}.md", text)
    return out / f"{table.name}.md"


def page(table: Overhead, result: OverheadResult, figure: str) -> str:
    """The page."""
    scale = result.scale_name
    judged = judge(table, result)
    parts = [
        f"# {table.name}: {scale} scale",
        f"The source says: {table.says}. ({table.source}.)",
        f"## Claims, {scale} scale",
        _claims(table, judged, answers=table.scales[scale].answers),
        figure,
    ]
    for part in PARTS:
        cases = [case for case in result.cases if case.part == part]
        if cases:
            parts += [f"## {part.capitalize()}, {scale} scale", _cases(cases)]
    machine = result.machine
    parts += [
        f"## Settings, {scale} scale",
        "The source gives none. Our choice:",
        bullets(table.chosen),
        f"## What {scale} scale cannot answer",
        bullets(table.scales[scale].limits),
        "## How it was measured",
        f"    {shlex.join(['undying', 'reproduce', table.name, '--scale', scale])}",
        "makes this page, from the timings that it writes to "
        f"{table.name}.json. Every form runs once in each round, in random order; a ratio is taken within a round, and what "
        "is shown is the median over the rounds with its 95 % interval, which assumes nothing of their distribution. Other "
        "work on the machine makes intervals wide, or worse; it should be left alone.",
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['instructions']}; Python "
        f"{machine['python']}, torch {machine['torch']}, undying {machine['undying']}. It took {duration(result.seconds)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _claims(table: Overhead, judged: tuple[Judged, ...], *, answers: bool) -> str:
    rows = [("form", "against", "part", "published", "ours at worst (95 % interval)", "where", "verdict")]
    rows += [
        (
            f"`{found.form}`",
            f"`{found.to}`",
            found.part,
            f"< {table.limit:.4f}",
            found.worst[1].in_words(RATIO) if found.worst else MISSING,
            found.worst[0] if found.worst else MISSING,
            f"**{found.verdict}**",
        )
        for found in judged
    ]
    count = Counter(found.verdict for found in judged)
    said = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    rule = (
        f"The claim is a time of less than {table.limit:.4f} times nn.ReLU's. It is *supported* if the 95 % interval of the "
        "ratio lies below that in every case that was measured, *not supported* if it lies above in one; otherwise it cannot "
        "be told. Intervals are not corrected for the number of cases."
        if answers
        else "At smoke scale no claim is judged."
    )
    return f"{len(judged)} claims: {said}. {rule}\n\n{markdown(rows)}"


def _cases(cases: list[Timed]) -> str:
    forms = [form for form in cases[0].ratios if form.startswith("nn.") or "BAReLU" in form]
    rows = [("form", *(case.where for case in cases))]
    rows += [(f"`{form}`", *(case.ratios[form][BASELINE].in_words(RATIO) for case in cases)) for form in forms]
    rows.append((f"`{BASELINE}`, microseconds", *(f"{1e6 * case.seconds[BASELINE]:.0f}" for case in cases)))
    return f"Times `{BASELINE}`: medians of ratios, with the 95 % interval of the median.\n\n{markdown(rows)}"


def _figure(table: Overhead, result: OverheadResult, file: str) -> Figure:
    """Every case of every judged form, on a logarithmic axis, with the limit."""
    judged = judge(table, result)
    against = {found.form: found.to for found in judged}
    rows = [
        Cases(
            f"{form}, {part}",
            colour_of(1 + number),
            [
                (ratio.low, ratio.value, ratio.high)
                for case in result.cases
                if case.part == part and form in case.ratios
                for ratio in [case.ratios[form][against[form]]]
            ],
        )
        for number, form in enumerate(table.forms)
        for part in PARTS
    ]
    title = f"Time against nn.ReLU, {result.scale_name} scale"
    said = [f"{found.form} {found.part} {found.worst[1].in_words(RATIO)}" for found in judged if found.worst]
    alt = f"{title}. The worst case of each, with its 95 % interval: {'; '.join(said)}."
    label = f"Times nn.ReLU; the line: published limit, {table.limit:g}"
    with styled():
        return placed(ratios(rows, label, table.limit, title), file, title, alt)
