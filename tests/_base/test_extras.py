"""What is missing is named with the command that installs it."""

import sys

import pytest

from undying._base.errors import UndyingError
from undying._base.extras import need


def test_a_module_that_is_there():
    assert need("xml.dom", None, "this") is sys.modules["xml.dom"]


@pytest.mark.parametrize(("extra", "package"), [("vision", "'undying[vision]'"), (None, "absent")])
def test_a_missing_package(extra, package):
    with pytest.raises(UndyingError) as error:
        need("absent.part", extra, "--photos")
    assert str(error.value) == f"--photos needs absent: pip install {package}"


def test_a_package_that_another_one_lacks(tmp_path, monkeypatch):
    (tmp_path / "present.py").write_text("import absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UndyingError, match="this needs absent: pip install absent"):
        need("present", None, "this")


def test_a_package_that_is_broken_is_another_matter(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        need("broken", None, "this")
