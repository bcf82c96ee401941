"""One run in several processes against the same in one: two or three gloo processes on a CPU."""

import multiprocessing
import random
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from undying._base.errors import UndyingError
from undying.lab import Execution, Settings, data
from undying.lab.checkpoints import Checkpoint
from undying.lab.distributed import ProcessGroup
from undying.lab.executors.work import FAILED, FINISHED, execute
from undying.lab.plan import plan
from undying.lab.runs.classification import train
from undying.lab.store import Store

TWO = Execution(devices=2)
TREATED = (
    "sugar:anneal=0.9+layernorm+recycle:at=0.4+l2init:1e-2+shrink_perturb:noise=1e-4+redo:0.3:every=3+snr:longest=4"
)


@pytest.fixture(scope="module", autouse=True)
def a_forkserver_with_fabric():
    """Whatever was started before. To import it takes a process seconds, and only these tests need it."""
    server = forkserver._forkserver
    server._stop()
    forkserver.set_forkserver_preload(["undying.lab.distributed"])
    yield
    server._stop()
    forkserver.set_forkserver_preload([])


@pytest.fixture(autouse=True)
def one_thread():
    """As the executors do; sums in another order round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_of(activation="sugar", **settings):
    settings = Settings(activations=(activation, "relu"), seeds=1, **settings)
    return settings.runs(data.load(settings.data).sha256)[0]


def without_times(epoch):
    return {key: value for key, value in epoch.metrics.items() if "seconds" not in key}


@pytest.mark.parametrize(
    ("devices", "recipe"),
    [
        (2, {"label_smoothing": 0.1, "mixup": 0.4, "cutmix": 0.4, "augment": ("crop",), "optimizer": "adamw"}),
        # 1,152 samples: 11 batches of 100 and one of 52.
        (2, {"validation": 0.2, "clip": 0.5, "ema": 0.9, "schedule": "cosine", "batch_size": 100}),
        # A last batch of 2, which is not shared: two of three processes have no samples.
        (3, {"subset": 102, "optimizer": "sgd", "batch_size": 25}),
    ],
    ids=["mixed", "averaged", "without samples"],
)
def test_numbers_are_those_of_one_process_up_to_rounding(devices, recipe):
    config = run_of(epochs=2, lr=0.003, **recipe)
    alone = [without_times(epoch) for epoch in train(config)]
    spread = [without_times(epoch) for epoch in train(config, Execution(devices=devices))]
    assert len(spread) == len(alone) == 3
    for one, several in zip(alone, spread, strict=True):
        assert one.keys() == several.keys()
        for name in one.keys() - {"sites", "weights_sha256"}:
            assert several[name] == pytest.approx(one[name], rel=1e-5), name
        assert several["sites"] == one["sites"]
    assert alone[-1]["weights_sha256"] != spread[-1]["weights_sha256"]  # they did train apart


def test_a_treatment_does_the_same():
    config = run_of(TREATED, epochs=2, subset=320, lr=0.003)
    alone, spread = list(train(config)), list(train(config, TWO))
    for one, several in zip(alone, spread, strict=True):
        assert one.metrics["recycled"] == several.metrics["recycled"]
        assert several.metrics["test_loss"] == pytest.approx(one.metrics["test_loss"], rel=1e-4)
    assert alone[-1].metrics["recycled"] > 0


def test_shares_are_the_batch_and_never_a_single_sample():
    for count in range(2, 6):
        group = [ProcessGroup(SimpleNamespace(global_rank=rank, world_size=count)) for rank in range(count)]
        for size in range(1, 14):
            x, y = torch.randn(size, 3, dtype=torch.float64, requires_grad=True), torch.arange(size)
            seen, loss = [], 0
            for rank in group:
                mine, labels = rank.share(x, y)
                assert len(mine) == len(labels) > (size > 1)
                assert torch.equal(mine, x[labels])
                share = rank.weighted(mine.square().mean(1).mean())
                loss = loss + share / count  # as gradients are averaged
                if share > 0:
                    seen += labels.tolist()
            assert seen == y.tolist()
            assert loss.item() == pytest.approx(x.square().mean().item(), rel=1e-12)


def test_draws_of_a_process_are_its_own_and_those_after_them_are_shared():
    def draws():
        return torch.rand(1).item(), random.random(), np.random.rand()

    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = draws()
    own = []
    for rank in range(2):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        this = ProcessGroup(SimpleNamespace(global_rank=rank, world_size=2))
        for numbers in ((0, 1, 1), (0, 1, 2), (0, 1, 1)):
            with this.forked_rng(*numbers):
                own.append(draws())
        assert draws() == expected
    assert own[0] == own[2]
    assert own[3] == own[5]
    assert len({value for drawn in own for value in drawn}) == 3 * 4


NETWORK = """
import os, random, signal, time, torch
from pathlib import Path
from torch import nn
from undying._base.errors import UndyingError
from undying.lab.checkpoints import Checkpoint

class Net(nn.Module):
    steps = 0

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 10))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        if self.training and "LOCAL_RANK" in os.environ and len(x) > 2:  # two are the probe of its shapes
            Net.steps += 1
            if Net.steps == 3:
                fault(int(os.environ["LOCAL_RANK"]))
            x = x * (1 + 0.1 * random.random())
        return self.body(x.flatten(1))

class KillAfter(Checkpoint):
    # Keeps the state after the third step and kills its process after the fifth.
    steps = 0
    def due(self):
        self.steps += 1
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.steps == 3

"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Function of what the network does at its third step in a process; returns settings with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    def settings(fault="pass"):
        Path("spread.py").write_text(f"{NETWORK}def fault(rank):\n    {fault}\n")
        return {"model": "spread:Net", "epochs": 2, "subset": 203, "batch_size": 20}

    yield settings
    sys.modules.pop("spread", None)


def test_killed_in_mid_epoch_a_run_ends_with_the_same_numbers(network, tmp_path):
    """With dropout and draws of the network's own, mixing, batch norm, unused parameters, on three processes."""
    config = run_of(**network(), mixup=0.5, augment=("flip",), ema=0.5)
    three = Execution(devices=3)
    undisturbed = [without_times(epoch) for epoch in train(config, three)]
    import spread

    with pytest.raises(ProcessExitedException, match="process 0 terminated with signal SIGKILL"):
        list(train(config, three, spread.KillAfter(tmp_path / "checkpoint.pt", 0)))
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", 1e9)
    assert (checkpoint.read()["epoch"], checkpoint.read()["step"]) == (1, 3)
    again = [without_times(epoch) for epoch in train(config, three, checkpoint)]
    assert undisturbed[1:] == again
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("if rank == 1: os.kill(os.getpid(), signal.SIGKILL)", ProcessExitedException, "process 1 .*SIGKILL"),
        ("if rank == 1: raise ValueError('a fault')", ProcessRaisedException, "ValueError: a fault\n$"),
        ("raise UndyingError('a mistake')", UndyingError, "^a mistake$"),
        ("if rank == 0: raise OSError(28, 'No space left on device')", OSError, "No space"),
    ],
    ids=["dies", "raises", "mistake", "full disk"],
)
def test_one_that_fails_ends_all_with_its_error(network, fault, error, message):
    with pytest.raises(error, match=message):
        list(train(run_of(**network(fault)), TWO))
    assert not multiprocessing.active_children()


def test_a_loss_that_is_not_finite_ends_all():
    epochs = list(train(run_of(optimizer="sgd", lr=1e9, epochs=5), TWO))
    assert [epoch.diverged for epoch in epochs] == [False, True]
    assert epochs[-1].census.to_dict() == epochs[0].census.to_dict()


def test_an_iteration_that_is_given_up_ends_all():
    epochs = train(run_of(epochs=100), TWO)
    next(epochs)
    assert len(multiprocessing.active_children()) == 2
    epochs.close()
    assert not multiprocessing.active_children()


def test_a_failed_run_is_noted_and_can_be_done_again(network, tmp_path):
    config = run_of(**network("if rank == 1: raise ValueError('a fault')"))
    store = Store(tmp_path / "out")
    assert execute(config, store.out, TWO, wait=False) == FAILED
    assert store.failure(config)[1].splitlines()[-1] == "ValueError: a fault"
    network()
    assert execute(config, store.out, TWO, wait=False) == FINISHED
    assert not store.has_failed(config)
    run = store.read(config)
    assert run.environment["devices"] == "2"
    assert len(run.epochs) == 3


PROGRAM = """
from pathlib import Path
from undying.lab import Execution, Settings, compare

if __name__ == "__main__":
    settings = Settings(activations=("sugar", "relu"), seeds=1, **{settings})
    compare(settings, "out", Execution(workers=1, devices=2, checkpoint_seconds=0))
"""


def test_all_end_with_a_killed_sweep_and_a_run_goes_on(network, tmp_path):
    arguments = network("Path(f'pid{rank}').write_text(str(os.getpid())); Path('hold').exists() and time.sleep(1000)")
    settings = Settings(activations=("sugar", "relu"), seeds=1, **arguments)
    config = plan(settings, tmp_path / "out").runs[0]
    undisturbed = [without_times(epoch) for epoch in train(config, TWO)]
    folder, pids = tmp_path / "out" / "runs" / config.id, [tmp_path / f"pid{rank}" for rank in range(2)]
    for path in pids:
        path.unlink()

    Path("hold").touch()
    Path("program.py").write_text(PROGRAM.replace("{settings}", repr(arguments)))
    process = subprocess.Popen([sys.executable, "program.py"])
    while not all(path.exists() and path.read_text() for path in pids):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    for path in pids:
        while running(path.read_text()):
            time.sleep(0.05)  # never ends if one stays
    Path("hold").unlink()
    assert Checkpoint(folder / "checkpoint.pt", 0).read()["epoch"] == 1

    assert execute(config, tmp_path / "out", TWO, wait=True) == FINISHED
    epochs = Store(tmp_path / "out").read(config).epochs
    assert [{k: v for k, v in epoch.items() if "seconds" not in k} for epoch in epochs] == undisturbed


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_without_fabric_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "undying.lab.distributed")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(UndyingError, match=r"lightning_fabric.*undying\[scale\]"):
        next(train(run_of(), TWO))


def test_one_process_takes_nothing_of_it(fresh):
    program = (
        "import sys\nfrom undying.lab import Settings, data\nfrom undying.lab.runs import classification\n"
        "config = Settings(epochs=1).runs(data.load('digits').sha256)[0]\n"
        "list(classification.train(config))\n"
        "print([name for name in ('lightning_fabric', 'undying.lab.distributed') if name in sys.modules])"
    )
    done = fresh(program)
    assert done.stdout.strip() == "[]", done.stderr
