"""The table of runs that are being trained."""

import contextlib
import io
import time

import pytest
from rich.console import Console

from stores import finish, prepared, stop_in
from undying._base.lock import Lock
from undying.cli import bar as bars
from undying.cli import progress
from undying.cli.progress import RunsTable
from undying.lab import Settings


@pytest.fixture
def sweep(tmp_path):
    return prepared(tmp_path, Settings(activations=("relu", "sugar:nelu"), seeds=2, epochs=4))


def text(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table.render())
    return console.file.getvalue()


def test_rows_are_the_runs_that_a_process_is_at(sweep):
    store, configs = sweep
    stop_in(store, configs[1], 3)
    stop_in(store, configs[2], 2)
    table = RunsTable(store, configs, Console(file=io.StringIO()))
    assert "sugar" not in text(table)
    with Lock(store.out / "runs" / configs[1].id):
        shown = text(table)
    row = next(line for line in shown.splitlines() if "sugar:nelu" in line)
    accuracy = [float(word) for word in row.replace("│", " ").split() if "." in word]
    assert row.replace("│", " ").split()[:3] == ["sugar:nelu", "0", "2/4"]
    assert 0 < accuracy[0] < 100
    assert "relu " not in shown.replace("sugar:nelu", "")
    assert max(map(len, shown.splitlines())) <= 80


def test_the_bar_counts_runs_and_the_time_left_goes_by_epochs_done_here(sweep, monkeypatch):
    store, configs = sweep
    stop_in(store, configs[1], 3)  # two of four epochs, before the command was given
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    table = RunsTable(store, configs, Console(file=io.StringIO()))
    assert "0/4 runs, 0:00 elapsed, - left" in text(table)
    finish(store, configs[0])
    table.finished(configs[0])
    now[0] += 60
    # A minute for one run; two and a half are left.
    assert "1/4 runs, 1:00 elapsed, 2:30 left" in text(table)


def test_more_runs_than_rows_are_counted(tmp_path):
    store, configs = prepared(tmp_path, Settings(activations=("relu", "gelu"), seeds=3, epochs=1))
    table = RunsTable(store, configs, Console(file=io.StringIO()), rows=2)
    with contextlib.ExitStack() as leases:
        for config in configs:
            (store.out / "runs" / config.id).mkdir(parents=True)
            leases.enter_context(Lock(store.out / "runs" / config.id))
        assert "2 of 6 runs" in text(table)


def test_a_terminal_sees_it_and_a_file_sees_nothing(sweep):
    store, configs = sweep
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
        with RunsTable(store, configs, console):
            time.sleep(0.01)
        assert ("0/4 runs" in console.file.getvalue()) == terminal


def test_a_store_that_cannot_be_read_for_a_moment_does_not_stop_it(sweep):
    store, configs = sweep
    table = RunsTable(store, configs, Console(file=io.StringIO()))
    stop_in(store, configs[0], 1)
    with Lock(store.out / "runs" / configs[0].id):
        (store.out / "runs" / configs[0].id / "metrics.jsonl").write_text("x\n")
        assert "0/4 runs" in text(table)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_on_stderr_and_only_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(bars.sys, "stderr", screen)
    with bars.bar("counting [x]") as done:
        assert list(bars.followed("abc", 3, done)) == ["a", "b", "c"]
        assert "counting [x]" in screen.getvalue()
    monkeypatch.setattr(bars.sys, "stderr", io.StringIO())
    with bars.bar("counting") as done:
        done(1, None)
    assert bars.sys.stderr.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_bar_knows_how_far_it_is(monkeypatch):
    told = []
    assert list(bars.followed(iter([5, 6]), None, lambda *said: told.append(said))) == [5, 6]
    assert told == [(1, None), (2, None)]
