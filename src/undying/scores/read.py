"""From files to results: which format each is in, and what all of them say together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from undying._base.csv_files import read_csv
from undying._base.errors import UndyingError
from undying.lab.results import Results
from undying.scores.events import event_files, read_events
from undying.scores.long import COLUMNS, is_long, not_read, read_long
from undying.scores.reading import Reading
from undying.scores.results import results_of
from undying.scores.value import Value
from undying.scores.wandb import is_chart, is_table, read_chart, read_table


def read_scores(
    paths: str | Path | Sequence[str | Path], reading: Reading | None = None, out: Path = Path("report")
) -> Results:
    """The results of a comparison whose runs somebody else trained.

    Args:
        paths: a file or folder, or several: CSV files of a row a number (arm, seed, metric, value and, for curves,
            step), CSV files of W&B, folders of TensorBoard's runs.
        reading: what of them to compare.
        out: the folder that the report is for, which its command names.

    Raises:
        UndyingError: a file cannot be read without guessing, or there is nothing to compare.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "scores.csv")
    ...     rows = [f"{arm},{seed},reward,{100 * seed + more}" for arm, more in (("a", 0), ("b", 9)) for seed in range(6)]
    ...     _ = file.write_text("\\n".join(["arm,seed,metric,value", *rows]))
    ...     read_scores([file]).activations[1].comparison.verdict
    'higher'
    """
    reading = reading or Reading()
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    values: list[Value] = []
    notes: list[str] = []
    for path in files:
        read, said = _read(path, reading)
        values += read
        notes += said
    source = {
        "name": ", ".join(path.name or str(path) for path in files),
        "sha256": _sha256(files),
        "values": len(values),
    }
    return results_of(values, reading, source, notes, reading.command(files, out))


def _read(path: Path, reading: Reading) -> tuple[list[Value], list[str]]:
    """What a file says, and what of it was not read, in words."""
    if path.is_dir():
        return read_events(path, reading), []
    if not path.exists():
        raise UndyingError(f"--from {path} is not there")
    if "tfevents" in path.name:
        raise UndyingError(f"--from {path} is one event file; name the folder of all runs")
    file = read_csv(path)
    if is_long(file):
        rest = not_read(file)
        return read_long(file, reading), [f"{path}: not read: {', '.join(rest)}"] if rest else []
    if is_chart(file):
        return read_chart(file, reading), []
    if is_table(file, reading):
        return read_table(file, reading)
    raise UndyingError(
        f"{path} has the columns {', '.join(file.header[:12])}; a table of scores has {', '.join(COLUMNS)} and perhaps "
        "step, an export of W&B a column for each 'RUN - METRIC' or a row a run with Name, or with the columns of "
        "--arm-column and --seed-column"
    )


def _sha256(paths: Sequence[Path]) -> str:
    """Of the bytes of all files, one after the other; of a single file what sha256sum says."""
    digest = hashlib.sha256()
    for path in paths:
        for file in event_files(path) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
