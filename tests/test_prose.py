"""The pages are for readers who may not be native speakers: sentences are short."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        *(
            page
            for page in ROOT.glob("docs/**/*.md")
            # What `undying reproduce` writes lies beside its runs or timings.
            if page.parent.name != "reference" and list(page.parent.glob(f"{page.stem}.*")) == [page]
        ),
    ]
)
LONG = 30
"""Words."""
MOST = 20
"""Sentences with more, over all pages. Make it smaller with each that is split; never larger."""


def sentences(text):
    """Of prose: without code, tables and addresses; what code stands for counts as one word."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^( {4}|\|).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", text))
    for paragraph in re.split(r"\n\s*\n|\n(?=[*-] )|\n(?=#)", text):
        yield from re.split(r"(?<=[.!?:;])\s+(?=[A-Z\[*`(c])", " ".join(paragraph.split()))


def words(sentence):
    return len(re.findall(r"\w[\w'.,%/-]*", sentence))


def test_what_is_counted():
    text = "One two. Three `four five`:\n\n```python\nnot this\n```\n| nor | this |\n[Six](seven.md) eight."
    assert [words(sentence) for sentence in sentences(text) if sentence] == [2, 2, 2]


def test_few_sentences_are_long():
    long = [
        (words(s), page.name, s)
        for page in PAGES
        for s in sentences(page.read_text(encoding="utf-8"))
        if words(s) > LONG
    ]
    shown = "\n".join(f"{number} {name}: {sentence}" for number, name, sentence in sorted(long, reverse=True)[:10])
    assert len(long) <= MOST, f"{len(long)} sentences of over {LONG} words:\n{shown}"
