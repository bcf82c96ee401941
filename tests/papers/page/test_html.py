"""The page of a table as HTML: everything that the markdown says, escaped, with tables and figures in their places."""

import re
from html import unescape
from pathlib import Path

import pytest

from undying.papers.page.figures import placed
from undying.papers.page.html import html_page
from undying.plots.dots import Row, dots
from undying.plots.theme import styled

RESULTS = Path(__file__).parents[3] / "docs" / "results"


def figure(file, arms=(0, 2)):
    with styled():
        rows = [Row("relu", "1.0", 1.0), Row("gelu", "2.0", 2.0)]
        return placed(dots(rows, "Score", 4.0), file, f"Title of {file}", "In words.", arms)


def body_of(page):
    return page.split("</style>")[1].split("<script>//")[0]


def words(text):
    return [word.strip("_") for word in re.findall(r"\w+", text)]


@pytest.mark.parametrize("name", ["undying-treat", "barelu-eps", "sugar-landscape"])
def test_nothing_of_a_committed_page_is_lost(name):
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    page = body_of(html_page(re.sub(r"!\[.*\]\(.*\)\n", "", text), {}))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    heads = text.count("| --- |\n") or sum(set(line) <= set("| -") for line in rows)
    assert page.count("<tr>") == len(rows) - heads
    assert page.count("<table>") == page.count('<div class="scroll" role="region" tabindex="0" aria-label="') - len(
        re.findall("<pre>", page)
    )
    main = page.split('<main class="reproduced">')[1]
    said = re.sub(r"!\[.*\]\(.*\)", "", text.partition("\n")[2])
    said = re.sub(r"\]\([^)]*\)", "]", said)
    assert words(unescape(re.sub(r"<[^>]*>", " ", main))) == words(said)


def test_figures_stand_where_the_text_has_them():
    text = (
        "# T: small\n\n## One\n\nwords\n\n![In words.](a.svg)\n\n![In words.](b.svg)\n\nmore\n\n![In words.](c.svg)\n"
    )
    page = body_of(html_page(text, {f: figure(f) for f in ("a.svg", "b.svg", "c.svg")}, ["relu", "elu", "gelu"]))
    assert page.count('<div class="figures">') == 2
    order = [page.index(part) for part in ("words", "Title of a.svg", "Title of b.svg", "more", "Title of c.svg")]
    assert order == sorted(order)
    assert page.count('<figure role="group"') == 3
    assert page.count('data-arms="0 2"') == 3
    assert re.findall(r'data-arm="(\d)" *>(\w+)</button>', page) == [
        ("0", "relu"),
        ("1", "elu"),
        ("2", "gelu"),
    ]
    assert len(re.findall('id="a-title"', page)) == 1


def test_text_is_text_and_names_of_rows_are_heads():
    text = "# T\n\n## <b>A</b> & b\n\n| arm | n |\n| --- | --- |\n| `<script>x</script>` | < 1 |\n| two | [f](f.csv) |\n\n    code <i>\n"
    page = body_of(html_page(text, {}))
    assert "<b>A" not in page
    assert "<script>x" not in page
    assert '<th scope="row"><code>&lt;script&gt;x&lt;/script&gt;</code></th>' in page
    assert "<td>&lt; 1</td>" in page
    assert '<th scope="row">two</th>' in page
    assert 'aria-label="&lt;b&gt;A&lt;/b&gt; &amp; b"' in page
    assert 'aria-label="&lt;b&gt;A&lt;/b&gt; &amp; b, 2"><pre>' in page
    assert '<a href="#part-1">' in page
    assert '<h2 id="part-1">' in page
