"""What a user or a file of somebody else's gets wrong ends in one line, without a traceback."""

import json
import re
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.table import Table
from torch import nn

from stores import finish, prepared
from undying.cli import main
from undying.cli.console import SafeConsole
from undying.lab import Settings

TITLE = "\x1b]0;changed title\x07"
"""What a terminal obeys."""
CENSUS = ["census", "--model", "mlp", "--limit", "8"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("mine", None)


def failing(words, capsys):
    """The one line that a command ends with."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("undying: ")
    assert err.count("\n") == 1
    assert "\x1b" not in out + err
    return err


def images(size):
    for part in ("train", "test"):
        for name in "ab":
            Path("images", part, name).mkdir(parents=True)
            Image.new("L", (4, 4)).save(Path("images", part, name, "1.png"))
    path = Path("images/train/a/1.png")
    png = bytearray(path.read_bytes())
    png[16:24] = struct.pack(">II", size, size)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    path.write_bytes(png)
    return ["census", "--model", "mlp", "--data", "images/"]


def npz(encrypted):
    x, y = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
    np.savez("a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    if encrypted:
        content = bytearray(Path("a.npz").read_bytes())
        for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.find(mark)
            while at >= 0:
                content[at + flags] |= 1
                at = content.find(mark, at + 4)
        Path("a.npz").write_bytes(content)
    else:  # a header that asks for 10 TB
        head = repr({"descr": "|u1", "fortran_order": False, "shape": (10**13,)}).encode()
        with zipfile.ZipFile("a.npz", "a") as file:
            file.writestr("classes.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n")
    return ["census", "--model", "mlp", "--data", "a.npz"]


def checkpoint(write):
    write(Path("a.pt"))
    return [*CENSUS, "--checkpoint", "a.pt"]


def damaged(path):
    torch.save(nn.Linear(64, 64).state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    )


def unchecked(path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    torch.save(nn.Linear(64, 64).state_dict(), path)
    torch.serialization.set_crc32_options(before)


def network(source, *command):
    Path("mine.py").write_text(f"import sys\nfrom torch import nn\n{source}\n")
    return command


COMPARE = ("compare", "--dry-run", "--epochs", "1", "--out", "x")
MISTAKES = {
    "an image that says it has 3.6 billion pixels": (lambda: images(60000), "1.png cannot be read as an image"),
    "an encrypted archive": (lambda: npz(True), "a.npz cannot be read"),
    "an array that says it has 10 TB": (lambda: npz(False), "a.npz cannot be read"),
    "a text as weights": (lambda: checkpoint(lambda p: p.write_text("root:x:0:0:root:/bin/sh\n")), "a.pt is damaged"),
    "a flipped bit in weights": (lambda: checkpoint(damaged), "a.pt is damaged: a/data"),
    "weights without checksums": (lambda: checkpoint(unchecked), "a.pt is damaged: .*set_crc32_options"),
    "weights without names": (lambda: checkpoint(lambda p: torch.save({1: torch.zeros(1)}, p)), "holds no state dict"),
    "a folder as weights": (lambda: checkpoint(Path.mkdir), "cannot read checkpoint a.pt: Is a directory"),
    "a seed beyond 64 bits": (lambda: [*CENSUS, "--seed", str(2**64)], "--seed"),
    "a batch beyond 64 bits": (lambda: [*CENSUS, "--batch-size", str(2**70)], "--batch-size"),
    "an example beyond memory": (lambda: ["audit", "torch.nn:ReLU", "--example", str(10**17)], "--example"),
    "data beyond memory": (lambda: ["census", "--model", "torch.nn:ReLU", "--data", f"random:{10**17}"], "--data"),
    "an endless warmup": (lambda: [*COMPARE, "--warmup", "1e308"], "--warmup"),
    "endless seeds": (lambda: [*COMPARE, "--seeds", str(10**12)], "--seeds"),
    "a device without numbers": (lambda: [*COMPARE, "--device", "meta"], "--device 'meta'"),
    "a function that gives no network": (lambda: [*COMPARE, "--model", "os:getcwd"], "gives a str"),
    "a word as a number": (lambda: [*COMPARE, "--activations", "relu", "elu:alpha=x"], "alpha=x must be a number"),
    "a number as a word": (lambda: [*COMPARE, "--activations", "relu", "gelu:approximate=1"], "must be a word"),
    "a module that ends the process": (lambda: network("sys.exit(0)", "audit", "mine:net"), "sys.exit was called"),
    "a module that raises": (lambda: network("1 / 0", "audit", "mine:net"), "ZeroDivisionError.*mine.py, line 3"),
    "a module with a fault in its grammar": (lambda: network("def", "audit", "mine:net"), "SyntaxError"),
    "a network that ends the process": (
        lambda: network("def net(): sys.exit(0)", *COMPARE, "--model", "mine:net"),
        "sys.exit was called",
    ),
    "a network that cannot reach something": (
        lambda: network("def net(): raise TimeoutError('too long')", *COMPARE, "--model", "mine:net"),
        "model 'mine:net': TimeoutError: too long .*mine.py, line 3",
    ),
    "data that end the process": (
        lambda: network("def data(): sys.exit(0)", *COMPARE, "--data", "mine:data"),
        "data 'mine:data': sys.exit was called",
    ),
    "data that cannot be reached": (
        lambda: network("def data(): raise ConnectionError('reset')", *COMPARE, "--data", "mine:data"),
        "data 'mine:data': ConnectionError: reset .*mine.py, line 3",
    ),
    "a name that turns the terminal": (lambda: [*COMPARE, "--data", f"{TITLE}/"], "no folder"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line(what, capsys):
    words, said = MISTAKES[what]
    assert re.search(said, failing(list(words()), capsys))


@pytest.mark.parametrize("place", ["", "runs", "sweep.json"])
def test_what_may_not_be_read_is_one_line(place, capsys, monkeypatch):
    settings = Settings(activations=("relu", "sugar"), seeds=1, epochs=1)
    store, configs = prepared(Path("a"), settings)
    for config in configs:
        finish(store, config)

    def refused(function):
        def call(path, *arguments, **options):
            if str(path).startswith(str(Path("a", place))):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *arguments, **options)

        return call

    for name in ("exists", "read_bytes", "read_text", "iterdir", "open"):  # root may read everything
        monkeypatch.setattr(Path, name, refused(getattr(Path, name)))
    assert "Permission denied" in failing(["report", "a"], capsys)
    main(["runs", "a"])
    out, err = capsys.readouterr()
    assert "Permission denied" in out + err


def test_no_word_of_a_file_reaches_the_terminal_as_a_command(capsys):
    settings = Settings(activations=("relu", "sugar"), seeds=1, epochs=1)
    for name in "ab":
        store, configs = prepared(Path(name), settings)
        sweep = json.loads((store.out / "sweep.json").read_text())
        sweep["data"]["name"] += TITLE
        (store.out / "sweep.json").write_text(json.dumps(sweep))
        for config in configs:
            finish(store, config)
        (store.out / "runs" / TITLE.replace("/", "")).mkdir()
    network(f"def net():\n    net = nn.Sequential()\n    net.add_module({TITLE!r}, nn.ReLU())\n    return net")
    for words in (
        ["report", "a"],
        ["runs", "a"],
        ["report", "a", "b", "--page", "p.html"],
        ["census", "--model", "mine:net", "--data", "random:4,4"],
        ["audit", "mine:net", "--example", "4,4"],
    ):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert "\x1b]" not in out + err
        assert "changed title" in out or words == ["report", "a"]


def test_styles_and_the_cursor_are_left_to_the_console(tmp_path):
    with (tmp_path / "out").open("w+") as file:
        console = SafeConsole(file=file, force_terminal=True, color_system="standard", width=60)
        table = Table()
        table.add_column("x")
        table.add_row("a\x1b[31mb")
        console.print(table, style="bold")
        console.print("plain \u202e\r\x9b2J\nnext", markup=False)
        console.clear()
        file.seek(0)
        printed = file.read()
    assert "\x1b[1m" in printed
    assert "\x1b[2J" in printed  # of clear
    assert "\x1b[31m" not in printed
    assert "plain \ufffd" in printed
    assert not {"\u202e", "\x9b"} & set(printed)


def test_a_report_writes_through_no_link(capsys):
    settings = Settings(activations=("relu", "sugar"), seeds=1, epochs=1)
    store, configs = prepared(Path("a"), settings)
    for config in configs:
        finish(store, config)
    Path("mine").mkdir()
    Path("victim").write_text("mine")
    Path("a/figures").symlink_to(Path("mine").resolve())
    Path("a/results.csv").symlink_to(Path("victim").resolve())
    assert "figures is a link" in failing(["report", "a"], capsys)
    Path("a/figures").unlink()
    assert main(["report", "a"]) == 0
    assert Path("victim").read_text() == "mine"
    assert list(Path("mine").iterdir()) == []
