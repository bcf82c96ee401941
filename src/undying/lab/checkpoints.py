"""The state of an unfinished run, kept from time to time."""

from __future__ import annotations

import io
import pickle
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undying._base.files import write_bytes


class Checkpoint:
    """A file that holds a run's state, written whole or not at all.

    It is due every so many seconds, and so seldom that writing takes no more than about 3 % of the time.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        self._next = time.monotonic() + seconds

    def read(self) -> dict[str, Any] | None:
        """The state that was kept last; None without one, and for a damaged file: the run then starts afresh."""
        # A damaged file that is no zip file any more would be taken for one of torch's old format.
        if not zipfile.is_zipfile(self._path):
            return None
        try:
            return torch.load(self._path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None

    def due(self) -> bool:
        """Whether the time has come to keep the state again."""
        return time.monotonic() >= self._next

    def write(self, state: dict[str, Any]) -> None:
        """Keep tensors and plain data, nothing else: they are read back with weights_only."""
        begun = time.monotonic()
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(self._path, content.getbuffer())
        now = time.monotonic()
        self._next = now + max(self._seconds, 30 * (now - begun))

    def remove(self) -> None:
        """The run is finished."""
        self._path.unlink(missing_ok=True)


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
