"""The default comparison beside the loop that a tutorial would write for it: ``python tests/bench_compare.py``.

In each round, in random order: the loop (60 runs, one after the other, in one process) and ``undying compare`` with one and
two workers, with ``--together auto`` and ``off``. Seconds of the clock and of the processors, from the command to its end,
as medians over the rounds. ``--steps`` measures a step of training alone, in one process: the processor's milliseconds for a
seed, by the loop, by a run alone and by a run of ten together.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ACTIVATIONS = ("relu", "leaky_relu", "barelu", "sugar", "sugar:nelu", "gelu")


def tutorial(seeds: int) -> None:
    """Each activation and seed in turn; nothing is counted, and nothing kept but the accuracy."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    import undying

    torch.set_num_threads(1)
    made = (nn.ReLU, lambda: nn.LeakyReLU(0.01), undying.BAReLU, undying.SUGAR, lambda: undying.SUGAR("nelu"), nn.GELU)
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = (
        torch.tensor(part) for part in train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    )
    x, x_test = ((part - x.mean()).div(x.std()).float() for part in (x, x_test))
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    for activation in made:
        for seed in range(seeds):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for features in (64, 128, 128, 128, 128, 128):
                layers += [nn.Linear(features, 128), activation()]
            model = nn.Sequential(*layers, nn.Linear(128, 10))
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(15):
                for inputs, labels in loader:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(inputs), labels).backward()
                    optimizer.step()
                with torch.no_grad():
                    accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
            print(type(activation()).__name__, seed, accuracy)


def steps(rounds: int, seeds: int) -> None:
    """Epochs of all three in turn, as in a worker."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from undying.lab import data
    from undying.lab.execution import Execution, prepare
    from undying.lab.executors.processes import _keep_memory
    from undying.lab.process_group import SingleProcess
    from undying.lab.runs.classification import SingleRun
    from undying.lab.runs.together import _Group
    from undying.lab.settings import Settings

    here = Execution()
    prepare(here)
    _keep_memory()
    digits = data.load("digits")
    loader = DataLoader(TensorDataset(digits.standardised(digits.x_train), digits.y_train), batch_size=64, shuffle=True)
    print("| | loop, ms | alone, ms | together, ms | loop / alone | loop / together |")
    print("| --- | --- | --- | --- | --- | --- |")
    for activation in ACTIVATIONS:
        configs = [config for config in Settings(seeds=seeds).runs(digits.sha256) if config.activation == activation]
        alone, looped, *together = (
            SingleRun(config, here, SingleProcess()) for config in (configs[0], *configs, configs[0])
        )
        for run in (alone, *together):
            run.begin(16)
        alone.epoch = 1
        group = _Group(together)
        model, optimizer = looped.model, torch.optim.Adam(looped.model.parameters(), lr=0.01)

        def loop(model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            for inputs, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()

        def one(alone: SingleRun = alone) -> None:
            alone.train(time.perf_counter(), None)

        def many(group: _Group = group) -> None:
            for _ in group.train(1):
                pass
            group.begin_epoch()

        spent: list[list[float]] = [[], [], []]
        for _ in range(rounds + 1):
            for form, own in zip((loop, one, many), spent, strict=True):
                begin = time.process_time()
                form()
                own.append(1000 * (time.process_time() - begin) / len(loader) / (len(together) if form is many else 1))
        loops, *others = (own[1:] for own in spent)  # the first warms up
        ratios = [statistics.median(a / b for a, b in zip(loops, own, strict=True)) for own in others]
        cells = [f"{value:.2f}" for value in (*map(statistics.median, (loops, *others)), *ratios)]
        print(f"| {activation} | {' | '.join(cells)} |", flush=True)


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of the processors, the children's children among them."""
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        with os.fdopen(reader) as told:
            wall, cpu = map(float, told.read().split())
        os.waitpid(child, 0)
        return wall, cpu
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what a command leaves behind is waited for here
    begin = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - begin
    try:
        while True:
            os.wait()
    except ChildProcessError:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.write(writer, f"{wall} {used.ru_utime + used.ru_stime}".encode())
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tutorial", action="store_true", help="run the loop and nothing else")
    parser.add_argument("--steps", action="store_true", help="measure steps of training and nothing else")
    given = parser.parse_args()
    if given.steps:
        steps(given.rounds, given.seeds)
        return
    if given.tutorial:
        tutorial(given.seeds)
        return
    forms = {"tutorial loop": [sys.executable, __file__, "--tutorial", "--seeds", str(given.seeds)]}
    for workers in ("1", "2"):
        for together in ("off", "auto"):
            words = [
                sys.executable,
                "-m",
                "undying",
                "compare",
                "--activations",
                *ACTIVATIONS,
                "--seeds",
                str(given.seeds),
            ]
            forms[f"{workers} workers, --together {together}"] = [*words, "--workers", workers, "--together", together]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(given.rounds):
        for name in random.sample(list(forms), len(forms)):
            with tempfile.TemporaryDirectory() as out:
                found[name].append(measured(forms[name] + ([] if name == "tutorial loop" else ["--out", out])))
                print(name, *(f"{seconds:.1f}" for seconds in found[name][-1]), file=sys.stderr, flush=True)
    print("| | clock, s | loop's over it | processors, s | loop's over it |\n| --- | --- | --- | --- | --- |")
    for name, rounds in found.items():
        cells = []
        for clock in (0, 1):
            seconds = statistics.median(one[clock] for one in rounds)
            pairs = zip(found["tutorial loop"], rounds, strict=True)
            cells += [f"{seconds:.1f}", f"{statistics.median(loop[clock] / own[clock] for loop, own in pairs):.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
