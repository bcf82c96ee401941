"""The same page as HTML: its text within the report's template, with the figures and tables of the report's script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from undying.plots.theme import THEME
from undying.report.drawing import Figure
from undying.report.html import environment

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")  # what looks like HTML is text


def html_page(text: str, figures: Mapping[str, Figure], arms: Sequence[str] = ()) -> str:
    """The whole HTML document.

    Args:
        text: the page in markdown, whose first line is its title.
        figures: by the name of the file that the text shows.
        arms: names of the arms that figures have in common, by the numbers of ``Figure.arms``.
    """
    tokens = _MARKDOWN.parse(text)
    title = tokens[1].content
    contents: list[tuple[str, str]] = []
    body = _MARKDOWN.renderer.render(list(_placed(tokens[3:], figures, contents)), _MARKDOWN.options, {})
    return (
        environment()
        .get_template("reproduced.html.j2")
        .render(title=title, contents=contents, body=Markup(body), arms=arms, theme=THEME)
    )


def _placed(tokens: Sequence[Token], figures: Mapping[str, Figure], contents: list[tuple[str, str]]) -> Iterator[Token]:
    """With an id for each heading, tables and code in frames, names of rows as heads, and drawings for images."""
    heading, tables, first = "", 0, False
    for at, token in enumerate(tokens):
        kind = token.type
        if (figure := _figure(tokens, at, figures)) is not None:
            before, after = (_figure(tokens, at + step, figures) for step in (-3, 3))
            yield _raw('<div class="figures">' * (before is None) + _drawn(figure) + "</div>" * (after is None))
            continue
        if any(_figure(tokens, at - step, figures) is not None for step in (1, 2)):
            continue  # the rest of the paragraph of an image
        if kind == "heading_open":
            heading, tables = tokens[at + 1].content, 0
            contents.append((f"part-{len(contents) + 1}", heading))
            token.attrSet("id", contents[-1][0])
        if kind in ("table_open", "code_block"):
            tables += 1
            name = heading if tables == 1 else f"{heading}, {tables}"
            yield _raw(f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">')
        if kind == "tr_open":
            first = True
        if kind in ("td_open", "td_close") and first:
            token.tag = "th"
            if kind == "td_open":
                token.attrSet("scope", "row")
            first = kind == "td_open"
        yield token
        if kind in ("table_close", "code_block"):
            yield _raw("</div>")


def _figure(tokens: Sequence[Token], at: int, figures: Mapping[str, Figure]) -> Figure | None:
    """That of a paragraph which begins here and is an image alone."""
    if not 0 <= at < len(tokens) - 1 or tokens[at].type != "paragraph_open":
        return None
    children = tokens[at + 1].children or []
    return figures.get(str(children[0].attrs["src"])) if len(children) == 1 and children[0].type == "image" else None


def _drawn(figure: Figure) -> str:
    # matplotlib wrote the SVG and escaped every text in it.
    parts = environment().get_template("parts.html.j2").module
    return str(parts.drawings([(figure, Markup(figure.page))]))  # type: ignore[attr-defined]


def _raw(content: str) -> Token:
    return Token("html_block", "", 0, content=content)
