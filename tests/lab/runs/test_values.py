"""Numbers and curves that each kind of run finds in lines that are written here."""

import math
from dataclasses import replace

import pytest

from undying.lab.runs.cartpole import CartPoleRun
from undying.lab.runs.dying import DyingRun
from undying.lab.runs.kind import kind_of
from undying.lab.settings import Settings

COMPARED = Settings().runs("sha")[0]
PLAYED = CartPoleRun(activation="relu", seed=0, epochs=2, lr=0.0003, batch_size=64, steps=100, passes=1)
NETWORK = DyingRun(
    activation="relu", seed=0, epochs=8, lr=0.01, optimizer="adam", batch_size=64, depth=1, width=4, tasks=4
)


def said(config, lines):
    kind = kind_of(config)
    return kind.values(config, lines, 0.5), kind.curves(config, lines)


def site(name, silent, dead=0):
    return {"name": name, "units": 4, "silent": silent, "dead": dead, "dormant": 0}


def test_cartpole():
    lines = [
        {
            "steps": 0,
            "return": None,
            "sites": [site("mlp_extractor.policy_net.1", 0), site("mlp_extractor.value_net.1", 1)],
        },
        {
            "steps": 100,
            "return": 100.0,
            "sites": [site("mlp_extractor.policy_net.1", 1, 1), site("mlp_extractor.value_net.1", 3)],
        },
        {
            "steps": 200,
            "return": 300.0,
            "sites": [site("mlp_extractor.policy_net.1", 2, 2), site("mlp_extractor.value_net.1", 4, 2)],
        },
    ]
    lines[-1] |= {"test_return": 250.0, "validation_return": 50.0, "recycled": 6}
    values, curves = said(PLAYED, lines)
    assert values == pytest.approx(
        {"accuracy": 0.5, "validation": 0.1, "area": 0.4, "policy_silent": 0.5, "value_silent": 1.0, "recycled": 0.75}
    )
    assert curves == {
        "over": (0, 100, 200),
        "return": (None, 0.2, 0.6),
        "policy_silent": (0.0, 0.25, 0.5),
        "value_silent": (0.25, 0.75, 1.0),
        "dead": (0.0, 0.125, 0.5),
        "recycled": (0.0, 0.0, 0.75),
    }


def test_cartpole_that_diverged_and_of_which_silent_is_not_said():
    values, curves = said(PLAYED, [{"steps": 0, "return": None, "sites": [site("a.policy_net.1", None, None)]}])
    assert (values["accuracy"], values["validation"], values["area"]) == (0, 0, 0)
    assert math.isnan(values["policy_silent"])
    assert curves["policy_silent"] == curves["dead"] == (None,)


def network(accuracies, **more):
    return [{"epoch": i, "test_accuracy": a, "sites": [site("act1", i % 4)]} | more for i, a in enumerate(accuracies)]


def test_the_end_of_each_task():
    accuracies = [0.1, 0.5, 0.9, 0.2, 0.7, 0.2, 0.5, 0.2, 0.3]
    values, curves = said(NETWORK, network(accuracies))
    assert values["accuracy"] == 0.3
    assert values["online"] == pytest.approx((0.9 + 0.7 + 0.5 + 0.3) / 4)
    assert values["validation"] == 0.1  # nothing was held out
    assert curves["over"] == tuple(range(9))
    assert curves["accuracy"] == tuple(accuracies)
    values, _ = said(replace(NETWORK, relu_epochs=4), network(accuracies))
    assert values["online"] == pytest.approx((0.5 + 0.3) / 2)  # those begun after the switch
    held = [line | {"validation_accuracy": 0.5 * line["test_accuracy"]} for line in network(accuracies)]
    assert said(NETWORK, held)[0]["validation"] == pytest.approx(0.5 * (0.9 + 0.7 + 0.5 + 0.3) / 4)
    values, _ = said(NETWORK, network([*accuracies[:5], None]))
    assert values["online"] == pytest.approx((0.9 + 0.7 + 0.1 + 0.1) / 4)  # it diverged: it guesses from then on


def test_the_revived_are_a_share_of_those_that_were_silent():
    lines = network([0.1] * 9)
    for line, revived in zip(lines[4:], (0, 2, 3, 4, 5), strict=True):
        line |= {"silent_before": 10, "revived": revived, "lost": 1}
    values, curves = said(replace(NETWORK, relu_epochs=4), lines)
    assert (values["revived_at_once"], values["revived_soon"], values["revived"]) == (0.0, 0.2, 0.5)
    assert curves["revived"] == (None, None, None, None, 0.0, 0.2, 0.3, 0.4, 0.5)
    lines[4] |= {"recycled": 2}
    lines[8] |= {"recycled": 5}  # more than there are: a unit may be recycled again
    values, curves = said(NETWORK, lines)
    assert (values["recycled"], curves["recycled"][4]) == (1.25, 0.5)


def test_what_diverged_counts_as_guessing_in_a_comparison():
    last = {"epoch": 1, "test_accuracy": 0.75, "validation_accuracy": 0.5}
    assert said(COMPARED, [{"epoch": 0}, last]) == ({"accuracy": 0.75, "validation": 0.5}, {})
    lost = last | {"test_accuracy": None, "validation_accuracy": None}
    assert said(COMPARED, [{"epoch": 0}, lost])[0] == {"accuracy": 0.5, "validation": 0.5}
    assert math.isnan(said(COMPARED, [{"epoch": 1, "test_accuracy": 0.75}])[0]["validation"])  # nothing was held out
