"""The run store: a folder a run, written so that a run is either finished or as good as absent.

OUT/sweep.json                  the settings of the latest comparison in this folder
OUT/runs/<id>/config.json       what was run; <id> is its hash
              metrics.jsonl     a line an epoch
              census.json       every unit after the last epoch
              weights.pt        the trained network, for the tables that need it
              environment.json  versions and machine
              data.json         counts and class balance
              start.json        hashes of the first weights and the first batch
              checkpoint.pt     the state of an unfinished run
              failure.json      the error of a run that failed
              result.json       appears last, by atomic rename: the run is finished
              landscape.json    the loss around the trained network, computed later
"""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying._base.files import write_bytes, write_text
from undying._base.lock import Lock, clear
from undying.census.results import Census
from undying.lab.checkpoints import Checkpoint
from undying.lab.runs.kind import Epoch, Run, kind_named
from undying.lab.runs.start import Start
from undying.lab.settings import FORMAT, AnyRun, RunConfig, Settings


class Store:
    """The runs of one output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def prepare(self, settings: Settings, data: dict[str, Any], model_sha256: str = "") -> None:
        """Make the folder and note the settings, what the data are, and the hash of the network's source.

        Raises:
            UndyingError: the folder cannot be written, or a newer version wrote it.
        """
        if (self.out / "sweep.json").exists():
            self._checked(self.out / "sweep.json")
        try:
            (self.out / "runs").mkdir(parents=True, exist_ok=True)
            sweep = {"format": FORMAT, "settings": asdict(settings), "data": data, "model_sha256": model_sha256}
            _write_json(self.out / "sweep.json", sweep)
        except OSError as error:
            raise UndyingError(
                f"cannot write to {self.out}: {error.strerror}; choose another folder with --out"
            ) from None

    def settings(self) -> Settings:
        """The settings of the latest comparison.

        Raises:
            UndyingError: there is none, or it cannot be read.
        """
        stored = self._sweep()["settings"]
        # JSON has no tuples.
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
        return Settings(**fields)

    def described(self) -> tuple[dict[str, Any] | None, str]:
        """What ``prepare`` was given of the data (None in folders of early versions) and of the network."""
        sweep = self._sweep()
        return sweep.get("data"), sweep.get("model_sha256", "")

    def _sweep(self) -> dict[str, Any]:
        path = self.out / "sweep.json"
        if not path.exists():
            raise UndyingError(
                f"{self.out} holds no comparison (no sweep.json); run 'undying compare --out {self.out}'"
            )
        return self._checked(path)

    def finished(self, config: AnyRun) -> bool:
        """Whether the run is there. Its files are checked when they are read."""
        return (self._folder(config) / "result.json").exists()

    def read(self, config: AnyRun) -> Run:
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
        return Run(config, result["status"], result["seconds"], epochs, environment, self._start(folder))

    def _start(self, folder: Path) -> Start | None:
        path = folder / "start.json"
        if not path.exists():
            return None
        fields = self._checked(path)
        fields.pop("format")
        try:
            return Start(**fields)
        except TypeError as error:
            raise _damaged(path, f"it is not the start of a run: {error}") from None

    def census(self, config: AnyRun) -> Census | None:
        """Every unit of a finished run after its last epoch; None if it was never counted.

        Raises:
            UndyingError: it cannot be read.
        """
        path = self._folder(config) / "census.json"
        content = _parsed(_text(path), path)
        try:
            return Census.from_dict(content) if content else None
        except ValueError as error:
            raise _damaged(path, str(error)) from None

    def weights(self, config: RunConfig) -> dict[str, Tensor] | None:
        """The trained network of a finished run; None if it was not to keep it, or diverged.

        Raises:
            UndyingError: they cannot be read.
        """
        path = self._folder(config) / "weights.pt"
        if "weights" not in config.keep or self._checked(path.with_name("result.json"))["status"] == "diverged":
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise _damaged(path, "it is missing") from None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            raise _damaged(path, "it does not hold weights") from None

    def path(self, config: AnyRun, name: str) -> Path:
        """Of a file that is computed from a finished run, in the run's folder."""
        return self._folder(config) / name

    def config(self, run_id: str) -> AnyRun:
        """What the run in folder ``run_id`` is.

        Raises:
            UndyingError: its config.json cannot be read, or is not of the run that the folder is named after.
        """
        path = self.out / "runs" / run_id / "config.json"
        content = self._checked(path)
        # JSON has no tuples.
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
        fields.pop("format")
        try:
            config: AnyRun = kind_named(fields.pop("kind", "")).config(**fields)
        except (KeyError, TypeError) as error:
            raise _damaged(path, f"it is not a run's: {error}") from None
        if config.id != run_id:
            raise _damaged(path, f"it is that of run {config.id}")
        return config

    def execute(
        self,
        config: AnyRun,
        train: Callable[[AnyRun, Checkpoint], Iterator[Epoch]],
        records: dict[str, Any],
        *,
        checkpoint_seconds: float = 60.0,
        wait: bool = True,
    ) -> None:
        """Train ``config`` and store it, unless it is finished. An unfinished run goes on from its checkpoint.

        Args:
            config: the run.
            train: gives its epochs.
            records: name -> plain data, for files beside it: ``environment`` and ``data``.
            checkpoint_seconds: how often its state is kept.
            wait: wait for another process that trains it; otherwise raise ``undying._base.lock.BusyError``.
        """
        folder = self._folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        if self.finished(config):
            return
        with Lock(folder, wait) as lock:
            if self.finished(config):
                return
            _write_json(folder / "config.json", config.to_dict())
            for name, content in records.items():
                _write_json(folder / f"{name}.json", content)
            checkpoint = Checkpoint(folder / "checkpoint.pt", checkpoint_seconds)
            epochs = self._epochs_before(checkpoint, folder)
            write_text(folder / "metrics.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in epochs))
            census, diverged, weights = None, False, None
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
                for epoch in train(config, checkpoint):
                    if epoch.start is not None:
                        _write_json(folder / "start.json", {"format": FORMAT, **asdict(epoch.start)})
                    metrics.write(json.dumps(epoch.metrics, allow_nan=False) + "\n")
                    metrics.flush()
                    epochs.append(epoch.metrics)
                    census, diverged, weights = epoch.census, epoch.diverged, epoch.weights
                    lock.check()
                os.fsync(metrics.fileno())
            _write_json(folder / "census.json", census.to_dict() if census else {})
            if weights is not None:
                content = io.BytesIO()
                torch.save(weights, content)
                write_bytes(folder / "weights.pt", content.getbuffer())
            status = "diverged" if diverged else "finished"
            seconds = sum(epoch["seconds"] for epoch in epochs)
            lock.check()
            _write_json(
                folder / "result.json", {"format": FORMAT, "status": status, "seconds": seconds, "lines": len(epochs)}
            )
            checkpoint.remove()
            (folder / "failure.json").unlink(missing_ok=True)
            clear(folder)

    def fail(self, config: AnyRun, error: str) -> None:
        """Note why ``config`` failed; a run that succeeds later removes the note.

        Of a finished run there is nothing to note: its process may die after the last file was written.
        """
        if self.finished(config):
            return
        folder = self._folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "failure.json", {"format": FORMAT, "error": error})

    def has_failed(self, config: AnyRun) -> bool:
        """Whether there is a note of ``fail``."""
        return (self._folder(config) / "failure.json").exists()

    def failure(self, config: AnyRun) -> tuple[Path, str]:
        """The note of ``fail`` and where it is."""
        path = self._folder(config) / "failure.json"
        return path, self._checked(path)["error"]

    def _epochs_before(self, checkpoint: Checkpoint, folder: Path) -> list[dict[str, Any]]:
        """The epochs that were finished when the checkpoint was written; without them it is of no use."""
        state = checkpoint.read()
        if state is None:
            return []
        try:
            lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[: state["epoch"]]
            epochs: list[dict[str, Any]] = [json.loads(line) for line in lines]
        except (OSError, ValueError):
            epochs = []
        if len(epochs) < state["epoch"]:
            checkpoint.remove()
            return []
        return epochs

    def _folder(self, config: AnyRun) -> Path:
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
