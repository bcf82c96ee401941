"""The figures: what they say in words, that they are small, the same each time, and leave no trace."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from undying.lab.results import Results, SiteHistory
from undying.plots.theme import PAPER, THEME, styled
from undying.report.drawing import Figure
from undying.report.figures import cost, differences, draw, learning, silent_units
from undying.report.layer_figures import layers
from undying.report.words import percent, ratio, seconds_ratio
from undying.statistics.records import Curve


@pytest.fixture(scope="module")
def figures(drawn: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in drawn}


def test_the_figures_of_the_report(figures: dict[str, Figure]) -> None:
    assert list(figures) == [
        "differences",
        "accuracy",
        "silent",
        "learning",
        "norms",
        "layers-silent",
        "layers-dead",
        "sparsity",
        "cost",
    ]


def test_alt_text_holds_means_and_intervals(figures: dict[str, Figure], results: Results) -> None:
    for activation in results.activations:
        for name, summary in (("accuracy", activation.score), ("silent", activation.silent)):
            interval = f", 95 % interval {100 * summary.low:.1f} to {100 * summary.high:.1f} %"
            expected = f"{activation.name} {percent(summary.mean)}{interval}"
            assert expected in figures[name].alt


def test_alt_text_of_curves_holds_first_and_last_epoch(figures: dict[str, Figure], results: Results) -> None:
    for activation in results.activations:
        accuracy, norm = activation.curves["test_accuracy"].median, activation.curves["gradient_norm"].median
        assert f"{activation.name} {100 * accuracy[0]:.3g} to {100 * accuracy[-1]:.3g}" in figures["learning"].alt
        # Nothing is known of the gradient before training.
        assert f"{activation.name} {norm[1]:.3g} to {norm[-1]:.3g}" in figures["norms"].alt


def test_alt_text_of_heat_maps_holds_the_extremes(figures: dict[str, Figure], results: Results) -> None:
    last = results.baseline.sites[-1]
    assert f"to {percent(last.silent[-1])} ({last.name})" in figures["layers-silent"].alt
    assert f"to {percent(last.dead[-1])} ({last.name})" in figures["layers-dead"].alt


def test_alt_text_of_cost_is_relative_to_the_baseline(figures: dict[str, Figure], results: Results) -> None:
    silu = results.activations[-1]
    pairs = zip(silu.seconds.values, results.baseline.seconds.values, strict=True)
    assert f"silu {ratio(np.median([own / base for own, base in pairs]))}" in figures["cost"].alt
    assert "relu 1.00×" in figures["cost"].alt


def test_one_slow_run_of_the_baseline_does_not_decide_the_cost(results: Results) -> None:
    """The large dot is the middle of its small ones, whatever a busy machine did to one run."""
    relu, *others = results.activations
    slow = list(relu.seconds.values)
    slow[3] *= 20
    mixed = replace(results, activations=[replace(relu, seconds=replace(relu.seconds, values=slow)), *others])
    for index in range(1, len(others) + 1):
        pairs = sorted(own / base for own, base in zip(results.activations[index].seconds.values, slow, strict=True))
        assert seconds_ratio(mixed, index) == pytest.approx((pairs[4] + pairs[5]) / 2)
        assert seconds_ratio(mixed, index) == pytest.approx(seconds_ratio(results, index), rel=0.05)
    # Of runs that have no pair there is nothing to say.
    alone = replace(results, activations=[relu, replace(others[0], seeds=[seed + 100 for seed in others[0].seeds])])
    assert seconds_ratio(alone, 1) is None


def test_the_numbers_below_a_heat_map_are_not_those_of_rounded_shares(results: Results) -> None:
    """1.33 units of 128 were shown as 1.4, the difference of 61.6 % and 60.5 %."""
    site = SiteHistory("act2", 128, [77.5 / 128, (77.5 + 4 / 3) / 128], [77.5 / 128, (77.5 + 4 / 3) / 128], [0.0, 0.0])
    with styled():
        [drawing] = layers(replace(results, activations=[replace(results.baseline, sites=[site])]), "dead")
    [[before, after]] = drawing.data["arms"][0]["count"]
    assert after - before == pytest.approx(4 / 3, abs=0.002)


def test_dead_units_that_are_the_silent_ones_died_and_revived_as_they_did(results: Results) -> None:
    relu = results.baseline
    both = [0.25, 0.5, None, 0.25]
    events = {"died": [None, 3.0, None, 1.0], "revived": [None, 0.5, None, 3.5]}
    same = SiteHistory("same", 8, both, both, [0.0] * 4, **events)
    other = SiteHistory("other", 8, both, [0.25, 0.25, None, 0.25], [0.0] * 4, **events)
    with styled():
        [drawing] = layers(replace(results, activations=[replace(relu, sites=[same, other])]), "dead")
    [arm] = drawing.data["arms"]
    assert {name: arm[name] for name in events} == {name: [of, []] for name, of in events.items()}
    assert "Counted at epochs 0, 1 and 3; an epoch between two counts shows the first." in drawing.caption
    with styled():
        [drawing] = layers(replace(results, activations=[replace(relu, sites=[other])]), "dead")
    assert "died" not in drawing.data["arms"][0]  # which units they were is not known


def test_seconds_that_were_shared_are_not_held_against_those_of_runs_alone(results: Results) -> None:
    *others, silu = results.activations
    mixed = replace(results, activations=[*others, replace(silu, together=True)])
    drawing = cost(mixed)
    assert "silu –" in drawing.alt
    assert "relu 1.00×" in drawing.alt
    assert "trained together" in drawing.caption
    assert "trained together" not in cost(results).caption
    assert seconds_ratio(replace(results, activations=[replace(a, together=True) for a in results.activations]), 1)


def test_a_share_that_is_not_known_is_explained(figures: dict[str, Figure], results: Results) -> None:
    relu = results.baseline
    first, second, *others = relu.sites
    gaps = [replace(first, dead=[0.1, None, *first.dead[2:]]), replace(second, dead=[*second.dead[:-1], None])]
    with styled():
        [drawing] = layers(replace(results, activations=[replace(relu, sites=[*gaps, *others])]), "dead")
    counted = f"Counted at 15 epochs from 0 to {len(first.dead) - 1}"
    assert f"{counted}; an epoch between two counts shows the first" not in drawing.caption  # the others have them all
    for words in ("an epoch between two counts shows the first", "Grey: not known"):
        assert words in drawing.caption
        assert words not in figures["layers-silent"].caption


def test_heat_maps_leave_out_what_is_empty(figures: dict[str, Figure], results: Results) -> None:
    dead = figures["layers-dead"]
    assert "Left out, as no unit was known to be dead at any epoch: leaky_relu, barelu" in dead.caption
    assert dead.page.count("data-columns") == 1
    assert figures["layers-silent"].page.count("data-columns") == len(results.activations)
    with styled():
        assert layers(replace(results, activations=results.activations[1:]), "dead") == []


def test_the_paired_differences_are_those_of_the_seeds(figures: dict[str, Figure], results: Results) -> None:
    figure = figures["differences"]
    groups = re.findall(r'data-arm="(\d)" data-notes="([^"]+)"', figure.page)
    for arm, activation in enumerate(results.activations[1:], 1):
        notes = [note for number, said in groups if int(number) == arm for note in said.split("|")]
        seen = {int(note[5:].partition(":")[0]): note.partition(": ")[2] for note in notes if note.startswith("seed")}
        assert sorted(seen) == list(activation.seeds)
        for seed, own, base in zip(
            activation.seeds, activation.score.values, results.baseline.score.values, strict=True
        ):
            assert float(seen[seed].replace("−", "-")) == pytest.approx(100 * (own - base), abs=0.051)
    margin = replace(results.activations[1].comparison, margin=0.01)
    first = replace(results.activations[1], comparisons={"accuracy": margin})
    with styled():
        [drawing] = differences(replace(results, activations=[results.baseline, first]))
        assert "within the margin of 1.0" in drawing.caption
        assert differences(replace(results, activations=[results.baseline])) == []


def test_the_data_of_a_curve_stand_beside_it(figures: dict[str, Figure], results: Results) -> None:
    root = ElementTree.fromstring(figures["learning"].page)
    [accuracy, _] = [group for group in root.iter() if group.get("data-box")]
    left, top, right, bottom = map(float, accuracy.get("data-box").split())
    (x0, x1), (y0, y1) = (map(float, accuracy.get(name).split()) for name in ("data-xlim", "data-ylim"))
    lines = sorted((group for group in accuracy.iter() if group.get("data-y")), key=lambda line: line.get("data-arm"))
    assert len(lines) == len(results.activations)
    for line, activation in zip(lines, results.activations, strict=True):
        values = list(map(float, line.get("data-y").split()))
        assert values == pytest.approx([100 * value for value in activation.curves["test_accuracy"].median], rel=1e-5)
        # matplotlib drew them where the numbers of the axes say that they are.
        [path] = [element for element in line.iter() if element.get("d")]
        drawn = list(map(float, re.findall(r"-?[\d.]+", path.get("d"))))
        places = [
            place
            for x, y in zip(map(float, line.get("data-x").split()), values, strict=True)
            for place in (left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top))
        ]
        assert drawn == pytest.approx(places, abs=0.02)
    assert "data-" not in figures["learning"].file


def test_drawing_twice_gives_the_same_bytes(figures: dict[str, Figure], results: Results) -> None:
    again = [(figure.name, figure.page, figure.file) for figure in draw(results)]
    assert again == [(figure.name, figure.page, figure.file) for figure in figures.values()]


def test_small(figures: dict[str, Figure]) -> None:
    assert {name: len(figure.page) for name, figure in figures.items() if len(figure.page) > 27_000} == {}


def test_a_file_has_its_own_colours_and_a_white_background(figures: dict[str, Figure]) -> None:
    for figure in figures.values():
        root = ElementTree.fromstring(figure.file.encode())
        assert "var(" not in figure.file
        assert not [colour for colour in THEME if colour.stand_in in figure.file]
        assert any(element.get("fill") == PAPER.light for element in root)
        assert root.get("width", "").endswith("pt")


def test_matplotlib_is_left_as_it_was(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "gelu"], seeds=2, epochs=1)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 77.0, "text.usetex": True}):
        inside = dict(matplotlib.rcParams)
        draw(results)
        assert dict(matplotlib.rcParams) == inside
    assert dict(matplotlib.rcParams) == before


def test_nothing_known_is_drawn_as_nothing(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "silu"], seeds=2, epochs=3)
    nothing = Curve([None] * 4, [None] * 4, [None] * 4)
    empty = [SiteHistory("act", 8, [None] * 4, [None] * 4, [None] * 4)]
    none = replace(results.baseline.score, values=[math.nan] * 2, mean=math.nan, low=None, high=None)
    activations = [
        replace(
            activation,
            curves=dict.fromkeys(activation.curves, nothing),
            sites=sites,
            scores={"accuracy": none},
            seconds=none,
        )
        for activation, sites in zip(results.activations, (empty, []), strict=True)
    ]
    for figure in draw(replace(results, activations=activations)):
        assert figure.name in ("silent", "differences") or any(
            word in figure.alt for word in ("not known", "unknown", "–")
        )
        ElementTree.fromstring(figure.page)


def test_many_activations_get_a_panel_each(make_results: Callable[..., Results]) -> None:
    names = ["relu", *(f"a{index}" for index in range(12))]
    results = make_results(names, seeds=3, epochs=400)
    with styled():
        accuracy, loss = (drawing.placed() for drawing in learning(results))
    assert (accuracy.name, loss.name) == ("learning-test_accuracy", "learning-train_loss")
    for figure in (accuracy, loss):
        said = "".join(ElementTree.fromstring(figure.page).itertext())
        assert all(f"{name} " in figure.alt for name in names)
        assert all(name in said for name in names[1:])
        assert len(figure.page) < 90_000  # not every one of 400 epochs is drawn
    assert ">0.1<" in loss.page  # small as it is, the axis has numbers


def test_a_number_that_is_unknown_is_said_to_be(make_results: Callable[..., Results]) -> None:
    results = make_results(["relu", "gelu"], seeds=2, epochs=1)
    results = replace(results, activations=[results.baseline, replace(results.activations[1], silent=None)])
    with styled():
        figure = silent_units(results).placed()
    assert "gelu unknown" in figure.alt
    assert "unknown" in figure.page
