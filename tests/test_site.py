"""The way from the first page to the one that a reader needs, and what the pages say of the code."""

import ast
import re
import runpy
from pathlib import Path

import pytest

import undying
import undying.lab

ROOT = Path(__file__).parent.parent
PAGES = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
JOBS = {
    "my-network-is-dying.md",
    "reinforcement-learning.md",
    "continual-learning.md",
    "sparse-autoencoders.md",
    "transformers.md",
    "ship.md",
    "paper.md",
    "gate.md",
}


def links(text):
    return re.findall(r"\]\(([\w/-]+\.md)\)", text)


def section(text, title):
    return re.search(rf"^{title}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize(
    ("page", "title", "prefix"),
    [
        ("README.md", "## Documentation", "docs/"),
        ("docs/README.md", "## By job", ""),
        ("llms.txt", "## By job", "docs/"),
    ],
)
def test_each_job_is_one_click_away(page, title, prefix):
    there = set(links(section((ROOT / page).read_text(encoding="utf-8"), title)))
    assert {prefix + job for job in JOBS} <= there


@pytest.mark.parametrize("page", sorted(JOBS))
def test_the_page_of_a_job_has_an_example(page):
    """``tests/test_docs.py`` runs it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert "```python\n" in text or re.search(r"^ {4}undying ", text, re.MULTILINE)


def test_every_page_is_in_the_contents_and_in_llms_txt():
    start = links((ROOT / "docs/README.md").read_text(encoding="utf-8"))
    named = links((ROOT / "llms.txt").read_text(encoding="utf-8"))
    results = {page for page in PAGES if page.startswith("results/") and page != "results/README.md"}
    assert sorted(start) == sorted(PAGES - results - {"README.md"})
    assert [page for page in named if page.startswith("docs/")] == [f"docs/{page}" for page in start]


@pytest.fixture(scope="module")
def conf():
    return runpy.run_path(str(ROOT / "docs/conf.py"))


def test_the_reference_has_every_public_name(conf):
    names = sorted(name for room in conf["names_by_room"]().values() for _, name in room)
    assert names == sorted(set(undying.__all__) - {"__version__"})
    assert set(undying.lab._HOMES) == set(undying.lab.__all__)


def test_the_reference_is_of_the_function_where_a_package_has_its_name(conf):
    assert conf["directive"](undying, "undying.census.census", "census") == ".. autofunction:: undying::census\n"
    assert "Every named surrogate" in conf["directive"](undying, "undying.surrogates", "SURROGATES")


def texts_of(source):
    """What each string of the code says, with … where an f-string has a value."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


TITLES = re.findall(r"^## (?!#)(.*)$", (ROOT / "docs/faq.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def messages():
    return [
        text
        for file in ROOT.glob("src/undying/**/*.py")
        for text in texts_of(file.read_text(encoding="utf-8"))
        if len(text) > 15
    ]


@pytest.mark.parametrize("title", TITLES)
def test_a_question_is_titled_by_a_message_of_the_code(title, messages):
    """Its fixed words stand in one string of the code, in this order."""
    assert title[0] == title[-1] == "`"
    words = [re.escape(part.strip()) for part in title.strip("`").split("…") if re.search(r"\w", part)]
    assert words
    pattern = re.compile(r"[\s\S]*?".join(words))
    assert any(pattern.search(message) for message in messages)
