"""What the bench is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from undying._base.errors import UndyingError
from undying.bench.forms import Form
from undying.bench.networks import MODELS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def one_and_all() -> tuple[int, ...]:
    return tuple(sorted({1, torch.get_num_threads()}))


def in_turn(threads: Sequence[int]) -> Iterator[int]:
    """Each number of torch's threads, set; what it was is put back at the end."""
    before = torch.get_num_threads()
    try:
        for number in threads:
            torch.set_num_threads(number)
            yield number
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class ActivationSettings:
    """Forward and backward of one activation on one tensor, beside nn.ReLU, and the bytes kept in between."""

    sizes: tuple[float, ...] = (1e3, 1e4, 1e5, 1e6, 1e7)
    """Elements of the tensor."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """float32, bfloat16, float16 or float64."""
    threads: tuple[int, ...] = field(default_factory=one_and_all)
    """Numbers of torch's threads; by default one and all."""
    seconds: float = 10.0
    """For all forms together at one size, type and number of threads, after warming up; at least six rounds."""
    forms: tuple[str, ...] = ()
    """Names as in the table; all by default. The baseline is always there."""
    no_compiled: bool = False
    """Leave out torch.compile, which takes seconds for each form and size."""
    device: str = "cpu"
    """Where to measure: cpu or cuda."""
    seed: int = 0
    """Of the data and of the order within a round."""

    def check(self) -> None:
        """Raises UndyingError for what cannot be measured."""
        if not self.sizes or any(size < 1 or size != int(size) for size in self.sizes):
            raise UndyingError(f"--sizes must be whole numbers of at least 1, not {_shown(self.sizes)}")
        if not self.dtypes or not set(self.dtypes) <= set(DTYPES):
            raise UndyingError(f"--dtypes must be some of {', '.join(DTYPES)}, not {_shown(self.dtypes)}")
        check_time(self.threads, self.seconds)
        check_device(self.device)


@dataclass(frozen=True)
class NetworkSettings:
    """Bytes kept for the backward pass of a network, and the peak of a training step."""

    models: tuple[str, ...] = ("resnet18",)
    """resnet18 (torchvision's) or mlp (four hidden layers of 1024)."""
    batch: int = 64
    """Images."""
    side: int = 64
    """Their height and width in pixels."""
    forms: tuple[str, ...] = ()
    """Names as in the table; all by default. The baseline is always there."""
    device: str = "cpu"
    """Where to measure: cpu or cuda."""
    seed: int = 0
    """Of the weights and the data."""

    def check(self) -> None:
        """Raises UndyingError for what cannot be measured."""
        if not self.models or not set(self.models) <= set(MODELS):
            raise UndyingError(f"--models must be some of {', '.join(MODELS)}, not {_shown(self.models)}")
        check_device(self.device)
        if self.batch < 2 or self.side < 1:
            raise UndyingError(f"--batch must be at least 2 and --side at least 1, not {self.batch} and {self.side}")


@dataclass(frozen=True)
class TrainingSettings(NetworkSettings):
    """A training step of a network from end to end: forward, loss, backward, SGD with momentum."""

    batch: int = 32
    """Images."""
    threads: tuple[int, ...] = field(default_factory=one_and_all)
    """Numbers of torch's threads; by default one and all."""
    seconds: float = 60.0
    """For all forms together at one network and number of threads, after warming up; at least six rounds."""
    compiled: bool = False
    """Also under torch.compile, which takes a minute for each form."""

    def check(self) -> None:
        """Raises UndyingError for what cannot be measured."""
        super().check()
        check_time(self.threads, self.seconds)


def choose(names: Sequence[str], among: Sequence[Form], *, always: str) -> list[Form]:
    """The forms of these names, and the one that is ``always`` there; all where no name is given.

    Raises:
        UndyingError: an unknown name.
    """
    known = [form.name for form in among]
    if unknown := [name for name in names if name not in known]:
        raise UndyingError(f"unknown --forms {', '.join(unknown)}; known: {', '.join(known)}")
    return [form for form in among if not names or form.name in names or form.name == always]


def short(size: float) -> str:
    """A number of elements in few characters.

    >>> short(1000000), short(1234)
    ('1e6', '1234')
    """
    exponent = len(str(int(size))) - 1
    return f"1e{exponent}" if size == 10**exponent and exponent >= 3 else str(int(size))


def check_time(threads: tuple[int, ...], seconds: float) -> None:
    if not threads or min(threads) < 1:
        raise UndyingError(f"--threads must be whole numbers of at least 1, not {_shown(threads)}")
    if not seconds > 0:
        raise UndyingError(f"--seconds must be above 0, not {seconds:g}")


def check_device(device: str) -> None:
    """Raises UndyingError for one that is not here, or whose work cannot be waited for."""
    if device != "cpu" and not (device.partition(":")[0] == "cuda" and torch.cuda.is_available()):
        raise UndyingError(f"--device {device!r} cannot be measured here: it must be cpu, or cuda where there is a GPU")


def clock(device: str) -> Callable[[], float]:
    """Gives seconds, once all that ``device`` was told to do is done."""
    if torch.device(device).type == "cpu":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def inductor(threads: int, device: torch.device) -> dict[str, Any]:
    """``options`` of torch.compile: a kernel on a CPU is made for a number of threads."""
    return {"cpp.threads": threads} if device.type == "cpu" else {}


def _shown(values: Sequence[object]) -> str:
    return " ".join(map(str, values)) or "none"
