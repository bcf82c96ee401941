"""Programs as ``python -c`` runs them, where nothing is imported but torch: forked off a process that has imported that,
which takes most of the time of such a program."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SERVER = """
import json, os, sys, torch

for line in sys.stdin:
    program, environment, out, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        for there, here in enumerate((os.devnull, out, errors)):
            os.dup2(os.open(here, os.O_RDWR | os.O_CREAT), there)
        os.environ.clear()
        os.environ.update(environment)
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    program = ""
exec(program, {"__name__": "__main__"})
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[Run]:
    """``run(program, **environment)``, with the environment beside this process's own; a value of None takes one away."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command, pipe = [sys.executable, "-c", SERVER], subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | path, stdin=pipe, stdout=pipe, text=True) as server:
        count = 0

        def run(program: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
            nonlocal count
            count += 1
            files = [folder / f"{count}.{kind}" for kind in ("out", "errors")]
            given = {k: v for k, v in (os.environ | path | environment).items() if v is not None}
            server.stdin.write(json.dumps([program, given, *map(str, files)]) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
            return subprocess.CompletedProcess([program], code, *(file.read_text() for file in files))

        yield run
