"""The bench's results as tables, to be aligned for a terminal of 80 columns or written as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from undying.bench.activations import Case
from undying.bench.forms import BASELINE
from undying.bench.memory import MIB, Memory
from undying.bench.networks import NETWORK_BASELINE
from undying.bench.settings import short
from undying.bench.timing import Ratio
from undying.bench.training import TrainingCase

Rows = list[list[str]]
"""The first row is the header."""


def activation_tables(cases: Sequence[Case], *, wide: bool) -> list[tuple[str, Rows]]:
    """A table of ratios to nn.ReLU for each type and number of threads, a column a size; ``wide`` has whole intervals."""
    tables = []
    for (dtype, threads), group in groupby(cases, key=lambda case: (case.dtype, case.threads)):
        across = list(group)
        rows = [["form", *(short(case.size) for case in across)]]
        rows += [
            [name, *(ratio_cell(case.timings.ratio(name, BASELINE), wide=wide) for case in across)]
            for name in across[0].timings.samples
        ]
        rows.append([f"{BASELINE}, microseconds", *(f"{1e6 * case.timings.seconds(BASELINE):.0f}" for case in across)])
        title = f"Forward + backward, times {BASELINE}: {dtype}, {threads} thread{'s' * (threads > 1)}"
        tables.append((title, rows))
    return tables


def backward_table(cases: Sequence[Case]) -> Rows:
    """For each form what computes its backward pass, and the bytes an element that it keeps for it, at the largest size."""
    last = max(cases, key=lambda case: case.size)
    kept = [[name, last.nodes[name], f"{last.kept[name] / last.size:.2f}"] for name in last.nodes]
    return [["form", "backward node", f"bytes kept an element, {last.dtype}"], *kept]


def memory_table(found: Sequence[Memory]) -> Rows:
    """A row a form and network, with the ratios to inplace ReLU."""
    rows = [["network", "form", "kept, MiB", "ratio", "peak, MiB", "ratio"]]
    for memory in found:
        base = next(m for m in found if m.model == memory.model and m.form == NETWORK_BASELINE)
        rows.append(
            [
                memory.model,
                memory.form,
                f"{memory.kept / MIB:.1f}",
                f"{memory.kept / base.kept:.3f}",
                f"{memory.peak / MIB:.1f}",
                f"{memory.peak / base.peak:.3f}",
            ]
        )
    return rows


def training_table(cases: Sequence[TrainingCase], *, wide: bool) -> Rows:
    """Ratios of a training step to inplace ReLU's, a column a network and number of threads."""
    rows = [["form", *(f"{case.model}, {case.threads}T" for case in cases)]]
    rows += [
        [name, *(ratio_cell(case.timings.ratio(name, NETWORK_BASELINE), wide=wide) for case in cases)]
        for name in cases[0].timings.samples
    ]
    rows.append([f"{NETWORK_BASELINE}, ms", *(f"{1e3 * case.timings.seconds(NETWORK_BASELINE):.0f}" for case in cases)])
    return rows


def ratio_cell(ratio: Ratio, *, wide: bool) -> str:
    """With its whole interval, or with half of its length."""
    digits = 2 if ratio.value < 9.995 else 1
    number = f"{{:.{digits}f}}".format
    half = number((ratio.high - ratio.low) / 2).removeprefix("0")
    return ratio.in_words(number, " [{}, {}]" if wide else f"±{half}")
