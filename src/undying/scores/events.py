"""TensorBoard's event files: a folder of runs, read by the tensorboard package itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.scores.reading import Reading
from undying.scores.value import Value

_FILES = "*tfevents*"


def event_files(folder: Path) -> list[Path]:
    """All below a folder, in order."""
    return sorted(path for path in folder.rglob(_FILES) if path.is_file())


def read_events(folder: Path, reading: Reading) -> list[Value]:
    """The scalars of every run; a run is a folder with event files, named by its path below ``folder``.

    Raises:
        UndyingError: there are no runs, tensorboard is not installed, or a run's name does not tell its arm and seed.
    """
    folders = list(dict.fromkeys(path.parent for path in event_files(folder)))
    if not folders:
        raise UndyingError(f"{folder} holds no event files of TensorBoard ({_FILES})")
    runs = {place: _scalars(place) for place in folders}
    chosen = reading.chosen((tag for scalars in runs.values() for tag in scalars), str(folder))
    values = []
    for place, scalars in runs.items():
        tags = [tag for tag in chosen if tag in scalars]
        if not tags:
            continue  # a folder beside the runs, such as that of hyperparameters
        name = place.relative_to(folder).as_posix()
        arm, seed = reading.run(folder.resolve().name if name == "." else name, str(place))
        values += [
            Value(arm, seed, tag, value, float(step), f"{place}, {tag}, step {step}")
            for tag in tags
            for step, value in scalars[tag]
        ]
    return values


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag, (step, value) in the order written."""
    what = "reading event files"
    reader = need("tensorboard.backend.event_processing.event_accumulator", None, what)
    util = need("tensorboard.util.tensor_util", None, what)
    events = reader.EventAccumulator(str(folder), size_guidance={reader.SCALARS: 0, reader.TENSORS: 0})
    try:
        events.Reload()
    except OSError as error:
        raise UndyingError(f"cannot read {folder}: {error.strerror}") from None
    tags = events.Tags()
    found = {tag: [(event.step, float(event.value)) for event in events.Scalars(tag)] for tag in tags["scalars"]}
    for tag in tags["tensors"]:  # as TensorFlow 2 and Keras write scalars
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found[tag] = [(e.step, _number(util.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
    return found


def _number(array: Any) -> float:
    return float(array.item())
