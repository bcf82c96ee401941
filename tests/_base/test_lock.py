"""A lock has one holder at a time, and a dead holder's goes to one other."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from undying._base import lock
from undying._base.errors import UndyingError
from undying._base.files import clear_temporary
from undying._base.lock import BusyError, Lock, clear


def leases(folder):
    return sorted(path.name for path in folder.glob(".lease.*"))


def test_held_and_let_go(tmp_path):
    with Lock(tmp_path) as held:
        assert leases(tmp_path) == [".lease.1"]
        held.held.check()
        with pytest.raises(BusyError), Lock(tmp_path, wait=False):
            raise AssertionError("two holders")
    assert leases(tmp_path) == []
    with Lock(tmp_path, wait=False):
        pass


def test_a_waiter_gets_it_when_it_is_let_go(tmp_path):
    order = []

    def wait():
        with Lock(tmp_path):
            order.append("waiter")

    with Lock(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.5)
        order.append("holder")
    thread.join()
    assert order == ["holder", "waiter"]


def test_a_killed_holder_of_this_machine_is_dead_at_once(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from undying._base.lock import Lock
        with Lock(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(600)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(BusyError), Lock(tmp_path, wait=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Lock(tmp_path, wait=False):
        assert leases(tmp_path) == [".lease.1", ".lease.2"]
    clear(tmp_path)
    assert leases(tmp_path) == []


def test_a_process_number_that_was_given_again_is_not_the_holder(tmp_path):
    holder = {"machine": lock._machine(), "pid": os.getpid(), "started": "long ago"}
    (tmp_path / ".lease.1").write_text(json.dumps(holder))
    with Lock(tmp_path, wait=False):
        assert leases(tmp_path) == [".lease.1", ".lease.2"]


@pytest.mark.parametrize("content", [json.dumps({"machine": "another", "pid": 1, "started": ""}), ""])
def test_a_holder_elsewhere_is_dead_when_it_was_silent_for_long(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lock, "STALE", 1.0)
    path = tmp_path / ".lease.1"
    path.write_text(content)
    with pytest.raises(BusyError), Lock(tmp_path, wait=False):
        pass
    stop = threading.Event()

    def beat():
        while not stop.wait(0.1):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    taken = []

    def wait():
        with Lock(tmp_path):
            taken.append(leases(tmp_path))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(2)
    assert not taken  # it beats
    stop.set()
    beating.join()
    waiter.join()
    assert taken == [[".lease.1", ".lease.2"]]


def test_one_that_was_taken_for_dead_notices(tmp_path):
    with Lock(tmp_path) as held:
        (tmp_path / ".lease.2").write_text("{}")
        with pytest.raises(BusyError):
            held.held.check()


def test_of_many_that_find_a_dead_holder_one_goes_on_at_a_time(tmp_path):
    holder = {"machine": lock._machine(), "pid": 2**22 + 1, "started": "1"}
    (tmp_path / ".lease.1").write_text(json.dumps(holder))
    inside, most = [], []

    def work():
        with Lock(tmp_path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12


def test_a_living_holder_touches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with Lock(tmp_path):
        path = tmp_path / ".lease.1"
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.01)  # never ends if it is not touched


@pytest.mark.parametrize("name", [".lease.1~", ".lease.", ".lease.x", ".lease.1.swp"])
def test_files_of_others_beside_it_are_no_locks(tmp_path, name):
    (tmp_path / name).touch()
    assert not lock.locked(tmp_path)
    with Lock(tmp_path, wait=False) as held:
        held.held.check()


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"machine": 3}', "[" * 100_000, "\x00", '{"machine": "M", "pid": "x", "started": 1}']
)
def test_a_lock_that_says_nothing_is_held_for_a_while(tmp_path, content):
    (tmp_path / ".lease.1").write_text(content.replace('"M"', json.dumps(lock._machine())))
    with pytest.raises(BusyError), Lock(tmp_path, wait=False):
        pass


def test_who_is_no_holder_any_more_writes_nothing(tmp_path):
    """It was stopped before a write, or in the midst of one, for as long as another took to go on and to finish."""
    with Lock(tmp_path) as stopped:
        stopped.held.write("a", b"first")
        (tmp_path / ".lease.2").write_text("{}")
        with pytest.raises(BusyError):
            stopped.held.write("a", b"second")
        clear(tmp_path)
        with pytest.raises(BusyError):
            stopped.held.write("a", b"second")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"first")]


def test_a_write_whose_file_the_next_holder_cleared_is_no_fault_of_the_folder(tmp_path, monkeypatch):
    def takes_over(_):
        (tmp_path / ".lease.2").write_text("{}")
        clear_temporary(tmp_path)

    with Lock(tmp_path) as stopped:
        monkeypatch.setattr(os, "fsync", takes_over)
        with pytest.raises(BusyError):
            stopped.held.write("a", b"first")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(UndyingError, match=r"cannot write .*absent/\.lease\.1: No such file.* to resume"),
        Lock(tmp_path / "absent"),
    ):
        pass
