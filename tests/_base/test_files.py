"""Files are whole or absent."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from undying._base import files
from undying._base.errors import UndyingError
from undying._base.files import clear_temporary, write_named, write_or_say, write_text


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


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for name, kind in [
        ("absent/a.txt", FileNotFoundError),
        ("file/a.txt", NotADirectoryError),
        ("folder", IsADirectoryError),
        ("n" * 300, OSError),
    ]:
        with pytest.raises(kind) as error:
            write_named(tmp_path / name, "new")
        assert error.value.filename == str(tmp_path / name)
        assert str(error.value).endswith(f"{str(tmp_path / name)!r}")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}


def test_writers_with_the_same_process_number_never_meet(tmp_path):
    """As processes of two machines in a folder that they share."""
    path, wrong = tmp_path / "a.json", []

    def write(letter):
        try:
            for _ in range(100):
                write_text(path, letter * 50_000)
                assert path.read_text() in ("a" * 50_000, "b" * 50_000)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=letter) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_no_link_is_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a.txt").symlink_to(victim)
    write_text(tmp_path / "a.txt", "new")
    assert ((tmp_path / "a.txt").read_text(), victim.read_text()) == ("new", "mine")
    # Though somebody foresaw the name.
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 16)
    (tmp_path / f".b.txt.{'0' * 16}").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "b.txt", "new")
    assert victim.read_text() == "mine"


def test_a_name_as_long_as_names_may_be(tmp_path):
    write_text(tmp_path / ("ñ" * 127), "text")
    assert (tmp_path / ("ñ" * 127)).read_text() == "text"


def test_devices_and_pipes_that_the_user_names_are_written_to(tmp_path):
    write_or_say(Path("/dev/null"), "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_or_say(tmp_path / "pipe", "text")
    reader.join()
    assert read == ["text"]
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UndyingError, match="cannot write /dev/fd/987: Bad file descriptor"):
        write_or_say(Path("/dev/fd/987"), "text")


def test_an_open_file_goes_on_where_it_is(tmp_path):
    """As /dev/stdout does that leads into a file, which opened by name would be written from its beginning."""
    with (tmp_path / "out").open("wb", buffering=0) as out:
        out.write(b"before ")
        write_or_say(Path(f"/dev/fd/{out.fileno()}"), "text")
        out.write(b" after")
    assert (tmp_path / "out").read_text() == "before text after"


def test_what_a_killed_writer_leaves_is_cleared(tmp_path):
    left, other, young = (tmp_path / name for name in (f".a.txt.{'0f' * 8}", ".bashrc", f".b.{'1' * 16}"))
    for path in (left, other, young):
        path.write_text("")
    os.utime(left, (1, 1))
    clear_temporary(tmp_path, 3600)
    assert {p.name for p in tmp_path.iterdir()} == {other.name, young.name}
    clear_temporary(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [other.name]
