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

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from undying._base.errors import UndyingError
from undying._base.files import clear_temporary, write_bytes
from undying._base.lock import Held, Lock, clear, writing
from undying.census.results import Census
from undying.lab.checkpoints import Checkpoint, load_whole
from undying.lab.runs.kind import Epoch, Run, kind_named
from undying.lab.runs.lines import check_lines
from undying.lab.runs.start import Start
from undying.lab.settings import FORMAT, AnyRun, RunConfig, Settings, check_types
from undying.statistics.metric import Metric

_HASHED = ("metrics.jsonl", "census.json", "environment.json", "data.json", "start.json")
"""Files of a run whose hashes result.json has; early versions noted none, or those of the first two."""


class Store:
    """The runs of one output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def prepare(
        self,
        settings: Settings,
        data: dict[str, Any],
        model_sha256: str = "",
        task_sha256: str = "",
        activations_sha256: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make the folder and note the settings, what the data are, and the hashes of the sources of network, task and
        activations.

        Raises:
            UndyingError: the folder cannot be written, or a newer version wrote it.
        """
        if (self.out / "sweep.json").exists():
            self._checked(self.out / "sweep.json")
        try:
            (self.out / "runs").mkdir(parents=True, exist_ok=True)
            sweep = {"format": FORMAT, "settings": asdict(settings), "data": data, "model_sha256": model_sha256}
            sweep |= {"task_sha256": task_sha256} if task_sha256 else {}
            sweep |= {"activations_sha256": dict(activations_sha256)} if activations_sha256 else {}
            _write_json(self.out / "sweep.json", sweep)
        except OSError as error:
            raise UndyingError(
                f"cannot write to {self.out}: {error.strerror}; choose another folder with --out"
            ) from None

    def is_of(self, settings: Settings) -> bool:
        """Whether the folder's latest comparison is this one; not where another began in it since."""
        try:
            return bool(self._sweep().get("settings") == json.loads(_json(asdict(settings))))
        except UndyingError:
            return False

    def settings(self) -> Settings:
        """The settings of the latest comparison.

        Raises:
            UndyingError: there is none, or it cannot be read.
        """
        path, stored = self.out / "sweep.json", self._sweep().get("settings")
        if not isinstance(stored, dict):
            raise _damaged(path, "it holds no settings")
        # JSON has no tuples.
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
        try:
            settings = Settings(**fields)
            check_types(settings)
        except (TypeError, AttributeError, ValueError) as error:
            raise _damaged(path, f"its settings are not those of this version: {error}") from None
        return settings

    def described(self) -> tuple[dict[str, Any] | None, str, str, dict[str, str]]:
        """What ``prepare`` was given of the data (None in folders of early versions), the network, the task and the
        activations."""
        sweep = self._sweep()
        data, hashes = sweep.get("data"), (sweep.get("model_sha256", ""), sweep.get("task_sha256", ""))
        activations = sweep.get("activations_sha256", {})
        if not isinstance(activations, dict) or not all(isinstance(found, str) for found in activations.values()):
            raise _damaged(self.out / "sweep.json", "it does not say what the activations are")
        if not all(isinstance(found, str) for found in hashes) or not (data is None or _is_description(data)):
            raise _damaged(self.out / "sweep.json", "it does not say what the data are")
        return data, *hashes, activations

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
        self.config(config.id)
        result = self._result(folder)
        metrics = folder / "metrics.jsonl"
        epochs = [_parsed(line, metrics) for line in read_text(metrics).splitlines()]
        if not epochs or len(epochs) != result["lines"]:
            raise _damaged(metrics, f"it has {len(epochs)} of {result['lines']} lines")
        for name in _HASHED:
            if name in result["sha256"]:
                read_text(folder / name, result["sha256"][name])
        try:
            check_lines(epochs)
        except ValueError as error:
            raise _damaged(metrics, str(error)) from None
        environment = _parsed(read_text(folder / "environment.json"), folder / "environment.json")
        return Run(config, result["status"], result["seconds"], epochs, environment, self._start(folder))

    def _result(self, folder: Path) -> dict[str, Any]:
        path = folder / "result.json"
        result = {"sha256": {}, **self._checked(path)}  # early versions noted no hashes
        known: dict[str, Any] = {"status": str, "seconds": (int, float), "lines": int, "sha256": dict}
        wrong = [name for name, kind in known.items() if not isinstance(result.get(name), kind)]
        if wrong or result["status"] not in ("finished", "diverged"):
            raise _damaged(path, f"its {wrong[0] if wrong else 'status'} is missing or wrong")
        return result

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
        content = _parsed(read_text(path, self._result(path.parent)["sha256"].get(path.name)), path)
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
        if "weights" not in config.keep or self._result(path.parent)["status"] == "diverged":
            return None
        content = _content(path)
        try:
            return load_whole(content)  # type: ignore[no-any-return]
        except Exception as error:  # whatever a damaged file makes its readers raise
            raise _damaged(path, f"it does not hold weights: {error}") from None

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
            check_types(config)
            found = config.id
        except (KeyError, TypeError, AttributeError, ValueError, UndyingError) as error:
            raise _damaged(path, f"it is not a run's: {error}") from None
        if found != run_id:
            raise _damaged(path, f"it is that of run {found}")
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
        with self.recording(config, records, checkpoint_seconds=checkpoint_seconds, wait=wait) as recording:
            if recording is not None:
                for epoch in train(config, recording.checkpoint):
                    recording.add(epoch)
                recording.finish()

    @contextlib.contextmanager
    def recording(
        self, config: AnyRun, records: dict[str, Any], *, checkpoint_seconds: float = 60.0, wait: bool = True
    ) -> Iterator[Recording | None]:
        """What ``execute`` does for one who trains several runs at once: hold the run's folder, and put into it what is
        added. None: the run is finished."""
        folder = self._folder(config)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if self.finished(config):
            yield None
            return
        with Lock(folder, wait) as lock:
            held = lock.held
            if self.finished(config):
                yield None
                return
            clear_temporary(folder)  # of one that was killed
            held.write("config.json", _json(config.to_dict()))
            for name, content in records.items():
                held.write(f"{name}.json", _json(content))
            checkpoint = Checkpoint(folder / "checkpoint.pt", checkpoint_seconds, held)
            epochs = self._epochs_before(checkpoint, folder)
            held.write("metrics.jsonl", _lines(epochs))
            yield Recording(folder, held, checkpoint, epochs)

    def fail(self, config: AnyRun, error: str) -> None:
        """Note why ``config`` failed; a run that succeeds later removes the note.

        Of a finished run there is nothing to note: its process may die after the last file was written.
        """
        if self.finished(config):
            return
        folder = self._folder(config)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(folder / "failure.json", {"format": FORMAT, "error": error})

    def has_checkpoint(self, config: AnyRun) -> bool:
        """Whether it was begun and goes on from a state."""
        return (self._folder(config) / "checkpoint.pt").exists()

    def has_failed(self, config: AnyRun) -> bool:
        """Whether there is a note of ``fail``."""
        return (self._folder(config) / "failure.json").exists()

    def failure(self, config: AnyRun) -> tuple[Path, str]:
        """The note of ``fail`` and where it is."""
        path = self._folder(config) / "failure.json"
        return path, str(self._checked(path).get("error") or "unknown")

    def _epochs_before(self, checkpoint: Checkpoint, folder: Path) -> list[dict[str, Any]]:
        """The epochs that were finished when the checkpoint was written; without them it is of no use."""
        state = checkpoint.read()
        if state is None:
            return []
        try:
            lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[: state["epoch"]]
            epochs: list[dict[str, Any]] = [json.loads(line) for line in lines]
            check_lines(epochs)
        except (OSError, ValueError, RecursionError):
            epochs = []
        if len(epochs) < state["epoch"]:
            checkpoint.remove()
            return []
        return epochs

    def _folder(self, config: AnyRun) -> Path:
        return self.out / "runs" / config.id

    def _checked(self, path: Path) -> dict[str, Any]:
        """The JSON object in ``path``, if this version can read it."""
        content = _parsed(read_text(path), path)
        if not isinstance(content.get("format"), int):
            raise _damaged(path, "it names no format")
        if content["format"] > FORMAT:
            raise UndyingError(
                f"{path} was written by a newer undying (format {content['format']}, this one reads up to {FORMAT}); "
                "upgrade undying or choose another folder with --out"
            )
        return content


class Recording:
    """A run that is being trained, as its folder has it."""

    def __init__(self, folder: Path, held: Held, checkpoint: Checkpoint, epochs: list[dict[str, Any]]) -> None:
        self._folder, self._held = folder, held
        self.checkpoint = checkpoint
        self.epochs = epochs
        """Lines of the epochs that are done; at first those before the checkpoint, from which the run goes on."""
        self._last: Epoch | None = None

    def add(self, epoch: Epoch) -> None:
        """An epoch is done.

        Raises:
            BusyError: another process holds the folder.
        """
        if epoch.start is not None:
            self._held.write("start.json", _json({"format": FORMAT, **asdict(epoch.start)}))
        self._held.check()
        with writing(self._folder), (self._folder / "metrics.jsonl").open("ab") as metrics:
            metrics.write(_lines([epoch.metrics]))
        self.epochs.append(epoch.metrics)
        self._last = epoch

    def finish(self) -> None:
        """The last one was added: the run is finished."""
        folder, held, last = self._folder, self._held, self._last
        if last is not None and last.weights is not None:
            content = io.BytesIO()
            torch.save(last.weights, content)
            held.write("weights.pt", content.getbuffer())
        census = last.census.to_dict() if last is not None and last.census else {}
        # Once more as a whole: another holder may have begun anew, and failed, while this one was stopped.
        for name, lines in {"census.json": _json(census), "metrics.jsonl": _lines(self.epochs)}.items():
            held.write(name, lines)
        result = {
            "format": FORMAT,
            "status": "diverged" if last is not None and last.diverged else "finished",
            "seconds": sum(epoch["seconds"] for epoch in self.epochs),
            "lines": len(self.epochs),
            "sha256": {name: _sha256(folder / name) for name in _HASHED if (folder / name).exists()},
        }
        held.write("result.json", _json(result))
        with contextlib.suppress(OSError):  # it is finished
            self.checkpoint.remove()
            (folder / "failure.json").unlink(missing_ok=True)
            clear(folder)


def _is_description(data: Any) -> bool:
    """Whether it is what is recorded of data, see ``undying.lab.tasks.describe``."""
    known = {"name": str, "sha256": str, "train": int}
    if not isinstance(data, dict) or not all(isinstance(data.get(name), kind) for name, kind in known.items()):
        return False
    try:
        metrics = [Metric(**fields) for fields in data.get("metrics", ())]
    except (TypeError, ValueError, AttributeError):
        return False
    return bool(metrics) or isinstance(data.get("classes"), int)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: Path, content: Any) -> None:
    write_bytes(path, _json(content))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _lines(epochs: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs).encode()


def read_text(path: Path, sha256: str | None = None) -> str:
    """A file of a store, with this hash if there is one.

    Raises:
        UndyingError: it is missing, damaged or cannot be read.
    """
    content = _content(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise _damaged(path, "it is not as it was written")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _damaged(path, "it is not text") from None


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise _damaged(path, "it is no file")
        return path.read_bytes()
    except FileNotFoundError:
        raise _damaged(path, "it is missing") from None
    except OSError as error:
        raise UndyingError(f"cannot read {path}: {error.strerror}") from None


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(path, "it is truncated or not JSON") from None
    if not isinstance(content, dict):
        raise _damaged(path, "it does not hold an object")
    return content


def _damaged(path: Path, what: str) -> UndyingError:
    # A run is deleted whole; sweep.json alone, since its folder holds the finished runs.
    culprit = path if path.name == "sweep.json" else path.parent
    return UndyingError(f"{path} cannot be read: {what}; delete {culprit} and run 'undying compare' again")
