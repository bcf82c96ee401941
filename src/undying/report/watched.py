"""A page as a sink of :func:`undying.watch`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from undying._base.files import write_text
from undying._base.text import known
from undying.census.record import Record
from undying.census.results import Census
from undying.census.site import Site
from undying.plots.curves import Line, Panel, panels
from undying.plots.theme import THEME, styled
from undying.report.drawing import Drawing, Figure
from undying.report.figures import FEW
from undying.report.html import environment
from undying.report.words import without_folder

_LOOKS, _DRAWINGS = 250, 200
"""How many times as long as writing the page, and as drawing its figures, it takes until the next: 0.9 % of one core."""
_PAUSE = 1.0
"""Seconds between two writings at least."""
_NORMS = ("gradient norm", "update norm")


@dataclass(frozen=True)
class Row:
    """One site as it was counted last."""

    site: Site
    line: str
    silent: float | None
    dead: float | None
    dormant: float
    died: int
    """How often one of its units fell silent on the probe; one that does so again counts again."""
    revived: int
    firing_rate: float


class Page:
    """One HTML file that shows a training as it goes on: a sink of :func:`undying.watch`.

    The page holds a row a site, and curves of the silent units and the norms over steps. Where the watch has a probe, units
    are told of that, since what is silent in one batch may fire in the next. It is written beside and renamed,
    so that it is whole at any moment, every few seconds and as seldom as it takes to cost less than 1 % of the time; it
    loads itself again until ``close``, and asks for nothing else. Needs ``undying[lab]``.

    Args:
        path: the file; its folder is made.

    Raises:
        OSError: the folder cannot be made.

    >>> import tempfile, torch, undying
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = undying.Page(f"{folder}/watch.html")
    ...     with undying.watch(net, optimizer, every=1, sinks=page):
    ...         net(torch.randn(16, 4)).square().mean().backward()
    ...         optimizer.step()
    ...     "Which units" in page.path.read_text()
    True
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()  # the working directory may change on the way
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._last: Record | None = None
        self._counted: tuple[int, Census] | None = None
        """The census that is shown, and its step."""
        self._probed = False
        """Whether it is of the probe."""
        self._died: Counter[str] = Counter()
        self._revived: Counter[str] = Counter()
        self._steps: list[int] = []
        self._norms: list[tuple[float | None, float | None]] = []
        self._silent: dict[str, dict[int, float]] = {}
        """By site and step."""
        self._figures: list[Figure] = []
        self._next = self._next_drawing = 0.0

    def write(self, record: Record) -> None:
        """Take a record, and write the page if it is time to."""
        self._take(record)
        now = time.monotonic()
        if now < self._next:
            return
        if now >= self._next_drawing:
            began = time.monotonic()
            self._figures = self._drawn()
            ended = time.monotonic()
            self._next_drawing = ended + _DRAWINGS * (ended - began)
        began = time.monotonic()
        self._write("running")
        ended = time.monotonic()
        self._next = ended + max(_PAUSE, _LOOKS * (ended - began))

    def close(self) -> None:
        """Write the page a last time, with everything in its figures; it no longer loads itself again."""
        if self._counted is not None:
            self._figures = self._drawn()
            self._write("finished")

    def _take(self, record: Record) -> None:
        self._last = record
        for total, events in ((self._died, record.died), (self._revived, record.revived)):
            total.update({site: len(units) for site, units in events.items()})
        self._steps.append(record.step)
        self._norms.append((record.gradient_norm, record.update_norm))
        if record.probe is None and self._probed:  # it could not be counted, and a batch is no stand-in
            return
        if record.probe is not None and not self._probed:
            self._silent.clear()
        self._probed = record.probe is not None
        self._counted = record.step, record.census if record.probe is None else record.probe
        for site in self._counted[1].sites:
            if site.silent is not None:
                self._silent.setdefault(site.name, {})[record.step] = 100 * float(site.silent.double().mean())

    def _worst(self) -> list[str]:
        """The sites whose curves are drawn: of many those with most silent units by now, in the order of the network."""
        by_now = sorted(self._silent, key=lambda name: -list(self._silent[name].values())[-1])
        return [name for name in self._silent if name in by_now[:FEW]]

    def _drawn(self) -> list[Figure]:
        worst = self._worst()
        with styled():
            drawings = [self._norms_drawing(), *([self._silent_drawing(worst)] if worst else [])]
            return [drawing.placed() for drawing in drawings if drawing is not None]

    def _silent_drawing(self, names: list[str]) -> Drawing:
        lines = [Line(name, list(self._silent[name]), list(self._silent[name].values())) for name in names]
        said = "; ".join(f"{line.name} {line.middle[0]:.1f} to {line.middle[-1]:.1f} %" for line in lines)
        caption = f"Over {self._of}."
        if len(names) < len(self._silent):
            caption += f" The {len(names)} sites of {len(self._silent)} with most silent units by now."
        return Drawing(
            panels([Panel("Silent units (%)", lines, over="Step")]),
            "silent",
            "Silent units by site",
            caption,
            f"Silent units, first to last step: {said}.",
        )

    @property
    def _of(self) -> str:
        return (
            "the probe, after the step and in eval mode"
            if self._probed
            else "the batches of the step, in training mode"
        )

    def _norms_drawing(self) -> Drawing | None:
        lines = []
        for at, name in enumerate(_NORMS):
            found = [(step, norms[at]) for step, norms in zip(self._steps, self._norms, strict=True)]
            values = [(step, value) for step, value in found if known(value)]
            lines.append(Line(name, [step for step, _ in values], [value for _, value in values]))
        if not any(line.x for line in lines):
            return None
        said = "; ".join(f"{line.name} {line.middle[0]:.3g} to {line.middle[-1]:.3g}" for line in lines if line.x)
        return Drawing(
            panels([Panel("L2 norm", lines, log=True, over="Step")]),
            "norms",
            "Gradient and update norms",
            "Over all parameters.",
            f"Norms, first to last step: {said}.",
        )

    def _write(self, state: str) -> None:
        assert self._last is not None
        assert self._counted is not None
        now = time.time()
        step, counted = self._counted
        drawn = self._worst()
        places = {"silent": range(len(drawn)), "norms": range(len(drawn), len(drawn) + len(_NORMS))}
        text = (
            environment()
            .get_template("watched.html.j2")
            .render(
                record=self._last,
                step=step,
                counted=counted,
                probed=self._probed,
                of=self._of,
                rows=[self._row(site) for site in counted.sites],
                names=[*drawn, *_NORMS],
                numbers=[number for of in places.values() for number in range(len(of))],
                figures=[(figure, Markup(figure.page)) for figure in self._figures],
                places=places,
                state=state,
                now=now,
                theme=THEME,
            )
        )
        write_text(self.path, text)

    def _row(self, site: Site) -> Row:
        return Row(
            site,
            without_folder(site.line),
            None if site.silent is None else float(site.silent.double().mean()),
            None if site.dead is None else float(site.dead.double().mean()),
            float(site.dormant.double().mean()),
            self._died[site.name],
            self._revived[site.name],
            float(site.firing_rate.double().mean()),
        )
