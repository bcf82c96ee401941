"""The run store: a folder a run, written so that a run is either finished or as good as absent.

OUT/sweep.json                  the settings of the latest comparison in this folder
OUT/runs/<id>/config.json       what was run; <id> is its hash
              metrics.jsonl     a line an epoch
              census.json       every unit after the last epoch
              environment.json  versions and machine
              result.json       appears last, by atomic rename: the run is finished
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from undying.errors import UndyingError
from undying.files import write_text
from undying.lab.settings import FORMAT, RunConfig, Settings


@dataclass(frozen=True)
class Run:
    """A finished run as read back."""

    config: RunConfig
    status: str
    """``"finished"`` or ``"diverged"``."""
    seconds: float
    epochs: list[dict[str, Any]]
    """The lines of metrics.jsonl; the first is before training."""
    environment: dict[str, str]


class Store:
    """The runs of one output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def prepare(self, settings: Settings) -> None:
        """Make the folder and note the settings.

        Raises:
            UndyingError: the folder cannot be written, or a newer version wrote it.
        """
        if (self.out / "sweep.json").exists():
            self._checked(self.out / "sweep.json")
        try:
            (self.out / "runs").mkdir(parents=True, exist_ok=True)
            _write_json(self.out / "sweep.json", {"format": FORMAT, "settings": asdict(settings)})
        except OSError as error:
            raise UndyingError(
                f"cannot write to {self.out}: {error.strerror}; choose another folder with --out"
            ) from None

    def settings(self) -> Settings:
        """The settings of the latest comparison.

        Raises:
            UndyingError: there is none, or it cannot be read.
        """
        path = self.out / "sweep.json"
        if not path.exists():
            raise UndyingError(
                f"{self.out} holds no comparison (no sweep.json); run 'undying compare --out {self.out}'"
            )
        stored = self._checked(path)["settings"]
        return Settings(**{**stored, "activations": tuple(stored["activations"])})

    def finished(self, config: RunConfig) -> bool:
        """Whether the run is there. Its files are checked when they are read."""
        return (self._folder(config) / "result.json").exists()

    def read(self, config: RunConfig) -> Run:
        """A finished run.

        Raises:
            UndyingError: a file is missing, truncated or was written by a newer version; nothing is changed.
        """
        folder = self._folder(config)
        self._checked(folder / "config.json")
        result = self._checked(folder / "result.json")
        epochs = [_parsed(line, folder / "metrics.jsonl") for line in _text(folder / "metrics.jsonl").splitlines()]
        if len(epochs) != result["lines"]:
            raise _damaged(folder / "metrics.jsonl", f"it has {len(epochs)} of {result['lines']} lines")
        environment = _parsed(_text(folder / "environment.json"), folder / "environment.json")
        return Run(config, result["status"], result["seconds"], epochs, environment)

    def execute(self, config: RunConfig, train: Callable[[RunConfig], Any], environment: dict[str, str]) -> None:
        """Train ``config`` and store it, unless it is finished; a half-written run is started afresh."""
        folder = self._folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        # Held by the process: a killed one lets go, and two commands in one folder share the work.
        with FileLock(folder / ".lock"):
            if self.finished(config):
                return
            _write_json(folder / "config.json", config.to_dict())
            _write_json(folder / "environment.json", environment)
            lines, seconds, census, diverged = 0, 0.0, None, False
            with (folder / "metrics.jsonl").open("w", encoding="utf-8") as metrics:
                for epoch in train(config):
                    metrics.write(json.dumps(epoch.metrics, allow_nan=False) + "\n")
                    metrics.flush()
                    lines += 1
                    seconds += epoch.metrics["seconds"]
                    census = epoch.census or census
                    diverged = epoch.diverged
                os.fsync(metrics.fileno())
            _write_json(folder / "census.json", census.to_dict() if census else {})
            status = "diverged" if diverged else "finished"
            _write_json(
                folder / "result.json", {"format": FORMAT, "status": status, "seconds": seconds, "lines": lines}
            )

    def _folder(self, config: RunConfig) -> Path:
        return self.out / "runs" / config.id

    def _checked(self, path: Path) -> dict[str, Any]:
        """The JSON object in ``path``, if this version can read it."""
        content = _parsed(_text(path), path)
        if not isinstance(content.get("format"), int):
            raise _damaged(path, "it names no format")
        if content["format"] > FORMAT:
            raise UndyingError(
                f"{path} was written by a newer undying (format {content['format']}, this one reads up to {FORMAT}); "
                "upgrade undying or choose another folder with --out"
            )
        return content


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _damaged(path, "it is missing") from None
    except UnicodeDecodeError:
        raise _damaged(path, "it is not text") from None


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        raise _damaged(path, "it is truncated or not JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, "it does not hold an object")
    return content


def _damaged(path: Path, what: str) -> UndyingError:
    # A run is deleted whole; sweep.json alone, since its folder holds the finished runs.
    culprit = path if path.name == "sweep.json" else path.parent
    return UndyingError(f"{path} cannot be read: {what}; delete {culprit} and run 'undying compare' again")
