"""The files around the code that others read: citation, templates of issues, wheels."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import undying
from undying.ops import native

ROOT = Path(__file__).parent.parent


def read_yaml(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version():
    """The keys that schema 1.2.0 of citation-file-format.github.io requires."""
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()
    assert str(citation["cff-version"]) == "1.2.0"
    assert str(citation["version"]) == undying.__version__
    for entry in (citation, *citation["references"]):
        assert all({"name"} == author.keys() or "family-names" in author for author in entry["authors"])
    assert all({"type", "title", "authors"} <= entry.keys() for entry in citation["references"])


@pytest.mark.parametrize("path", [str(p.relative_to(ROOT)) for p in ROOT.glob(".github/ISSUE_TEMPLATE/[!c]*.yml")])
def test_the_templates_of_issues_are_forms(path):
    form = read_yaml(path)
    assert {"name", "description", "body"} <= form.keys()
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert ids
    assert len(set(ids)) == len(ids)
    assert all(part["attributes"].get("label") or part["type"] == "markdown" for part in form["body"])


def test_one_wheel_a_platform_is_built():
    """A dry run of cibuildwheel: what it would build, from pyproject.toml."""
    pytest.importorskip("cibuildwheel")  # needs Python 3.11
    for arch in ("x86_64", "aarch64"):
        command = [
            sys.executable,
            "-m",
            "cibuildwheel",
            "--print-build-identifiers",
            "--platform",
            "linux",
            "--archs",
            arch,
        ]
        printed = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=True).stdout
        assert printed.split() == [f"cp312-manylinux_{arch}"]


def test_the_workflow_builds_with_what_is_configured_here():
    workflow = read_yaml(".github/workflows/wheels.yml")
    said = json.dumps(workflow["jobs"]["wheel"]["steps"])
    assert "cibuildwheel --output-dir dist" in said
    assert "torch-abi-audit --check torch" in said
    assert workflow["permissions"] == {"contents": "read"}


def audit(library):
    command = [Path(sys.executable).with_name("torch-abi-audit"), "--check", "torch", "--json", library]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    [found] = json.loads(done.stdout)["bundled_libs"]
    return done.returncode, found["torch"]


@pytest.mark.skipif(native.missing() is not None, reason=f"no native kernels: {native.missing()}")
def test_the_library_uses_only_the_stable_abi_of_torch():
    pytest.importorskip("torch_abi_audit")  # needs Python 3.11
    status, found = audit(Path(native.__file__).with_name("kernels.so").resolve())
    assert (status, found["uses_torch"], found["stable"]) == (0, True, True)
    assert found["unstable_symbols"] == found["unknown_shim_symbols"] == []
    assert found["min_torch_version"] == "2.10.0"


def test_the_audit_finds_what_is_not_stable():
    """A small library of torch's own, which is made for this torch alone."""
    pytest.importorskip("torch_abi_audit")
    status, found = audit(Path(torch.__file__).with_name("lib") / "libshm.so")
    assert (status, found["stable"]) == (1, False)
    assert found["unstable_symbols"]
