"""Files are whole or absent."""

import errno
import os

import pytest

from undying._base.errors import UndyingError
from undying._base.files import write_or_say, write_text


def test_a_file_is_replaced_and_nothing_left_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old\n")
    write_text(path, "ñew\r\n")
    assert path.read_bytes() == "ñew\r\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "absent" / "a.txt"
    with pytest.raises(UndyingError) as error:
        write_or_say(path, "new")
    assert str(error.value) == f"cannot write {path}: No such file or directory"
    path.parent.mkdir()
    write_or_say(path, "new")
    assert path.read_text() == "new"
