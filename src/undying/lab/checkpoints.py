"""The state of an unfinished run, kept from time to time."""

from __future__ import annotations

import io
import random
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undying._base.files import write_bytes
from undying._base.lock import Held


class Checkpoint:
    """A file that holds a run's state, written whole or not at all.

    It is due every so many seconds, and so seldom that writing takes no more than about 3 % of the time.
    """

    def __init__(self, path: Path, seconds: float, held: Held | None = None) -> None:
        self._path, self._seconds, self._held = path, seconds, held
        self._next = time.monotonic() + seconds

    def read(self) -> dict[str, Any] | None:
        """The state that was kept last; None without one.

        A damaged file, or one of another run, is removed with a warning: the run then begins anew.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            state: dict[str, Any] = load_whole(content)
            if state.pop("run", self._run) != self._run:
                raise ValueError("another run's")
        except Exception as error:  # whatever a damaged file makes its readers raise
            warnings.warn(f"{self._path} is of no use, so the run begins anew: {error}", RuntimeWarning, stacklevel=2)
            self.remove()
            return None
        return state

    @property
    def _run(self) -> str:
        """Whose folder the file is in."""
        return self._path.parent.name

    def due(self) -> bool:
        """Whether the time has come to keep the state again."""
        return time.monotonic() >= self._next

    def write(self, state: dict[str, Any]) -> None:
        """Keep tensors and plain data, nothing else: they are read back with weights_only."""
        begun = time.monotonic()
        content = io.BytesIO()
        torch.save({**state, "run": self._run}, content)
        if self._held is None:
            write_bytes(self._path, content.getbuffer())
        else:
            self._held.write(self._path.name, content.getbuffer())
        now = time.monotonic()
        self._next = now + max(self._seconds, 30 * (now - begun))

    def remove(self) -> None:
        """The run is finished."""
        self._path.unlink(missing_ok=True)


def load_whole(content: bytes) -> Any:
    """What ``torch.save`` wrote, on the CPU, read with weights_only. ``torch.load`` does not compare the checksums that
    are in it.

    Raises:
        Exception: it is damaged, or something else.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:  # what is no zip file torch would take for its old format
        if (name := file.testzip()) is not None:
            raise ValueError(f"{name} in it is damaged")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def seed_everything(seed: int) -> None:
    """torch's generators, Python's and numpy's, which networks and augmentations of others may draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def random_state() -> dict[str, Any]:
    """Of all of them, as tensors and plain data."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
    }


def restore_random(state: dict[str, Any]) -> None:
    """Put all of them back to ``random_state()``."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
