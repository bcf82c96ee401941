"""How ``make docs`` turns these pages into a site: Sphinx with MyST for the pages and autodoc for the reference.

What is written here is what GitHub shows too. Made at build time are the contents, from the links of README.md, and the
reference, a page for each room of ``undying.__all__`` and one for ``undying.lab``.
"""

import ast
import inspect
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import undying
import undying.lab

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"  # git-ignored

project, version = "undying", undying.__version__
author = project_copyright = "The undying developers"
root_doc = "README"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"undying {version}"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which a browser refuses where they are files

myst_heading_anchors = 4  # a link to page.md#a-heading is checked, as GitHub names headings
napoleon_custom_sections = ["Shape"]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has names and defaults; what an argument may be is said in words
python_maximum_signature_line_length = 100


def names_by_room() -> dict[str, list[tuple[str, str]]]:
    """Module and name of each of ``undying.__all__``, by the room that ``__init__.py`` imports it from."""
    rooms: dict[str, list[tuple[str, str]]] = {}
    for node in ast.parse(inspect.getsource(undying)).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.count("."):
            room = node.module.split(".")[1]
            rooms.setdefault(room, []).extend((node.module, alias.name) for alias in node.names)
    return {room: names for room, names in rooms.items() if not room.startswith("_")}


def directive(package: object, home: str, name: str) -> str:
    found = getattr(package, name)
    if not callable(found):  # autodoc would show what its type says of itself
        said = ModuleAnalyzer.for_module(home).find_attr_docs()["", name]
        return f".. py:data:: {package.__name__}.{name}\n\n   " + "\n   ".join(said) + "\n"
    kind = "class" if inspect.isclass(found) else "function"
    # The colons say where the module ends: undying.census is a function here and a package elsewhere.
    return f".. auto{kind}:: {package.__name__}::{name}\n"


def write_reference() -> None:
    REFERENCE.mkdir(exist_ok=True)
    for old in REFERENCE.glob("*.rst"):
        old.unlink()
    pages = {room: (undying, names) for room, names in names_by_room().items()}
    pages["lab"] = (undying.lab, [(undying.lab._HOMES[name], name) for name in undying.lab.__all__])
    for page, (package, names) in pages.items():
        title = "undying.lab" if page == "lab" else f"undying, {page}"
        parts = [f"{title}\n{'=' * len(title)}\n", *(directive(package, *name) for name in names)]
        (REFERENCE / f"{page}.rst").write_text("\n".join(parts), encoding="utf-8")


def add_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """A hidden table of contents for each section of README.md that has links, and one for the reference."""
    if name == root_doc:
        for section in source[0].split("\n## ")[1:]:
            pages = re.findall(r"\]\(([\w/-]+)\.md\)", section)
            source[0] += contents(section.splitlines()[0], pages)
        source[0] += contents("API reference", sorted(f"reference/{path.stem}" for path in REFERENCE.glob("*.rst")))
    if name == "results/README":
        pages = sorted(path.relative_to(HERE).with_suffix("") for path in (HERE / "results").rglob("[a-z]*.md"))
        source[0] += contents("Results", [f"/{page.as_posix()}" for page in pages])


def contents(caption: str, pages: list[str]) -> str:
    lines = [f":caption: {caption}", ":hidden:", "", *dict.fromkeys(pages)]
    return "\n\n```{toctree}\n" + "\n".join(lines) + "\n```\n"


def add_index(app: Sphinx, error: Exception | None) -> None:
    """The first page also by the name that a web server looks for."""
    if error is None:
        shutil.copy(app.outdir / "README.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    write_reference()
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
