"""The rooms of the package, and which of them each may import."""

import ast
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import undying

LAYERS = (
    "_torch",
    "_base surrogates",
    "ops",
    "activations",
    "units",
    "census certify treat",
    "integrations",
    "statistics",
    "statistics",
    "lab",
    "plots scores probe",
    "report bench",
    "papers",
    "cli",
)
"""Lowest first. A room imports from itself and from lower layers. ``undying/__init__`` names what is public of any room and
is imported by none; so integrations' ``register``, which it names, is no way up. ``__main__`` imports cli, and every
room may import ``_version``, which imports nothing."""

BESIDE = {("certify", "census"), ("treat", "census"), ("treat", "certify")}
"""Rooms of one layer, and the rooms beside it that each imports as well: a box is of batches as the census takes them, and
units are recycled that a census or a certificate names; a reverted network is checked on batches too."""

CORE = LAYERS[:6]
"""These import torch and the standard library, and the file of Triton's kernels Triton."""

ROOT = Path(undying.__file__).parent
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms.split()}


def name(path):
    """The module of a file."""
    parts = ("undying", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name(path): path for path in ROOT.rglob("*.py")}
LINES = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}


def modules(path):
    """Every module that a file imports, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            for alias in node.names:  # a module of the package, or what a module holds
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in FILES else node.module


IMPORTS = {module: set(modules(path)) for module, path in FILES.items()}
OWN = {module: {other for other in imported if other in FILES} for module, imported in IMPORTS.items()}


def room(module):
    """``census`` of ``undying.census.watch``; nothing of ``undying`` itself."""
    return module.removeprefix("undying").lstrip(".").partition(".")[0]


def allowed(importer, imported):
    here, there = room(importer), room(imported)
    if not here or there == "_version":
        return True
    if here == "__main__":
        return there == "cli"
    return there == here or LEVEL.get(there, len(LAYERS)) < LEVEL[here] or (here, there) in BESIDE


def against_the_rules():
    for importer, imported in OWN.items():
        where = FILES[importer].relative_to(ROOT).as_posix()
        yield from (f"{where} imports {other}" for other in imported if not allowed(importer, other))
        if LINES[importer] > 500:
            yield f"{where} is above 500 lines"


def test_no_import_runs_up_and_no_file_is_above_500_lines():
    assert list(against_the_rules()) == []


def test_every_room_has_its_layer():
    assert {room(module) for module in FILES} - {"", "__main__", "_version"} <= set(LEVEL)


def test_rooms_of_one_layer_import_each_other_as_listed_only():
    pairs = {(room(module), room(other)) for module, imported in OWN.items() for other in imported}
    assert {(a, b) for a, b in pairs if a != b and a in LEVEL and LEVEL[a] == LEVEL.get(b)} == BESIDE
    TopologicalSorter({a: {b for first, b in BESIDE if first == a} for a, _ in BESIDE}).prepare()


def test_no_files_import_each_other_in_a_circle():
    try:
        TopologicalSorter(OWN).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def test_no_room_is_above_a_quarter_of_the_lines():
    lines = Counter()
    for module, count in LINES.items():
        lines[room(module)] += count
    [(largest, count)] = lines.most_common(1)
    assert count <= lines.total() / 4, f"{largest}: {count} of {lines.total()} lines"


def test_the_core_imports_torch_and_the_standard_library_only():
    core = set(" ".join(CORE).split())
    foreign = {
        (module, other.partition(".")[0])
        for module, imported in IMPORTS.items()
        for other in imported
        if room(module) in core and other.partition(".")[0] not in {"undying", "torch", *sys.stdlib_module_names}
    }
    assert foreign == {("undying.ops.triton_kernels", "triton")}
