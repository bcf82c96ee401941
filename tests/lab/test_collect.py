"""What is collected of runs that are there only in part, or say only part."""

import json
import sys

import pytest
import torch

from stores import UNITS, epochs_of, finish, prepared
from undying._base.errors import UndyingError
from undying.lab import Execution, Settings, compare
from undying.lab.collect import collect
from undying.lab.runs.lines import packed
from undying.statistics.paired import compare_to_baseline

SETTINGS = Settings(activations=("relu", "sugar", "gelu"), seeds=4, epochs=2)


def some(out, wanted, settings=SETTINGS):
    """A store with the runs (activation, seed) that are in ``wanted``."""
    store, configs = prepared(out, settings)
    for config in configs:
        if (config.activation, config.seed) in wanted:
            finish(store, config)
    return store


def test_what_is_not_said_of_an_activation_is_none_and_not_zero(tmp_path):
    """tanh says nothing of silent units, and has no place in a comparison of them."""
    settings = Settings(activations=("relu", "sugar", "gelu"), seeds=6, epochs=2)
    store, configs = prepared(tmp_path, settings)
    for config in configs:
        finish(store, config, epochs_of(config, unknown=("silent", "dead") if config.activation == "gelu" else ()))
    relu, sugar, gelu = collect(store, settings).activations
    assert (gelu.silent, gelu.dead) == (None, None)
    assert gelu.dormant.mean == pytest.approx(3 / UNITS)
    assert [site.silent for site in gelu.sites] == [[None] * 3] * 3
    assert set(gelu.comparisons) == {"accuracy"}
    alone = compare_to_baseline("silent", relu.silent.values, {"sugar": sugar.silent.values}, baseline="relu")
    assert sugar.comparisons["silent"] == alone["sugar"]  # Holm's correction counts one comparison


def test_a_baseline_that_says_nothing_of_silent_units_leaves_nothing_to_compare(tmp_path):
    settings = Settings(activations=("relu", "sugar"), seeds=2, epochs=1)
    store, configs = prepared(tmp_path, settings)
    for config in configs:
        finish(store, config, epochs_of(config, unknown=("silent",) if config.activation == "relu" else ()))
    relu, sugar = collect(store, settings).activations
    assert relu.silent is None
    assert sugar.silent is not None
    assert set(sugar.comparisons) == {"accuracy"}


def test_networks_with_tanh_are_compared_and_reported(tmp_path):
    """The real thing: what replaces tanh is counted, and the sites that stay tanh are not said to be silent."""
    (tmp_path / "mixed.py").write_text(
        "from torch import nn\n"
        "def net(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 10))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        both = {}
        for targets in (("ReLU",), ("Tanh",)):
            settings = Settings(model="mixed:net", activations=("relu", "sugar"), seeds=1, epochs=1, targets=targets)
            both[targets] = compare(settings, tmp_path / targets[0], Execution(workers=1))
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("mixed")
    for activation in both["ReLU",].activations:
        tanh, relu = activation.sites
        assert (tanh.units, tanh.silent) == (9, [None, None])
        last = next(
            json.loads(path.with_name("metrics.jsonl").read_text().splitlines()[-1])["sites"]
            for path in tmp_path.glob("ReLU/runs/*/config.json")
            if json.loads(path.read_text())["activation"] == activation.name
        )
        assert activation.silent.values == [last[1]["silent"] / 7]
        assert relu.silent[-1] == last[1]["silent"] / 7
    for activation in both["Tanh",].activations:
        assert [site.silent is not None and site.silent[0] is not None for site in activation.sites] == [True, True]


def test_a_network_that_was_never_finite_is_counted_as_guessing_and_its_units_are_unknown(tmp_path):
    store, configs = prepared(tmp_path, SETTINGS)
    for config in configs:
        if config.activation == "gelu":
            lines = [{"epoch": 0, "test_loss": None, "test_accuracy": None, "seconds": 0.1}]
            finish(store, config, lines, diverged=True)
        else:
            finish(store, config)
    gelu = collect(store, SETTINGS).activations[2]
    assert gelu.score.values == [0.1] * 4
    assert (gelu.diverged, gelu.silent, gelu.sparsity, gelu.sites) == (4, None, None, [])


def test_partial_results_are_of_what_is_finished_and_pairs_of_what_both_have(tmp_path):
    wanted = {("relu", 0), ("relu", 1), ("relu", 3), ("sugar", 1), ("sugar", 2), ("sugar", 3)}
    store = some(tmp_path, wanted)
    with pytest.raises(UndyingError, match="6 of 12 runs"):
        collect(store, SETTINGS)
    results = collect(store, SETTINGS, partial=True)
    assert (results.finished, results.planned, results.partial, results.unfinished) == (6, 12, True, ["gelu"])
    relu, sugar = results.activations
    assert (relu.seeds, sugar.seeds) == ([0, 1, 3], [1, 2, 3])
    by_seed = [dict(zip(a.seeds, a.score.values, strict=True)) for a in (relu, sugar)]
    expected = sum(by_seed[1][seed] - by_seed[0][seed] for seed in (1, 3)) / 2
    found = sugar.comparisons["accuracy"]
    assert found.difference == pytest.approx(expected, abs=1e-12)
    assert found.wins + found.ties + found.losses == 2
    assert found.verdict == "cannot tell"
    assert "cannot tell with 2 seeds" in found.sentence
    plain = results.to_dict()
    assert (plain["partial"], plain["finished"], plain["planned"], plain["unfinished"]) == (True, 6, 12, ["gelu"])


@pytest.mark.parametrize(
    ("wanted", "compared"),
    [
        ({("relu", 0)}, {}),
        ({("relu", 0), ("sugar", 1)}, {"sugar": None}),
        ({("relu", 0), ("sugar", 0)}, {"sugar": "cannot tell"}),
        ({("relu", 0), ("relu", 2), ("gelu", 0), ("gelu", 2)}, {"gelu": "cannot tell"}),
    ],
)
def test_none_one_or_two_pairs_cannot_tell(tmp_path, wanted, compared):
    results = collect(some(tmp_path, wanted), SETTINGS, partial=True)
    found = {a.name: a.comparisons["accuracy"].verdict if a.comparisons else None for a in results.activations[1:]}
    assert found == compared


def test_without_a_run_of_the_baseline_there_is_nothing_to_compare_with(tmp_path):
    for wanted, number in ((set(), 0), ({("sugar", 0)}, 1)):
        store = some(tmp_path / str(number), wanted)
        with pytest.raises(
            UndyingError, match=rf"no run of the baseline relu .*\({number} of 12 runs are\).*undying runs"
        ):
            collect(store, SETTINGS, partial=True)


def test_a_finished_comparison_is_the_same_whether_partial_ones_are_allowed_or_not(tmp_path):
    store = some(tmp_path, {(name, seed) for name in SETTINGS.activations for seed in range(4)})
    whole = collect(store, SETTINGS)
    assert not whole.partial
    assert collect(store, SETTINGS, partial=True).to_dict() == whole.to_dict()


def test_units_recycled_are_summed_up_of_the_arms_that_recycle(tmp_path):
    settings = Settings(activations=("relu", "relu+recycle:at=0.5"), seeds=2, epochs=2)
    store, configs = prepared(tmp_path, settings)
    for config in configs:
        epochs = epochs_of(config)
        for epoch in epochs if "recycle" in config.activation else ():
            epoch["recycled"] = epoch["epoch"] * (3 + config.seed)
            epoch["refused"] = {"act1": "why"} if epoch["epoch"] == 2 else {}
        finish(store, config, epochs)
    relu, recycling = collect(store, settings).activations
    assert (relu.recycled, "recycled" in relu.curves) == (None, False)
    assert (recycling.recycled.values, recycling.recycled.mean) == ([6, 8], 7)
    assert recycling.curves["recycled"].median == [0, 3.5, 7]
    assert (relu.refused, recycling.refused) == ({}, {"act1": "why"})
    assert recycling.module == "ReLU(), Recycle(at=0.5, init='default')"


def test_what_was_held_out_for_validation_is_collected_a_run_each(tmp_path):
    settings = Settings(activations=("relu", "gelu"), seeds=2, epochs=1, validation=0.1)
    store, configs = prepared(tmp_path, settings)
    for config in configs:
        lines = epochs_of(config)
        diverged = (config.activation, config.seed) == ("gelu", 1)
        lines[-1] |= {"validation_loss": None if diverged else 0.5 + config.seed, "validation_accuracy": 0.9}
        finish(store, config, lines, diverged=diverged)
    relu, gelu = collect(store, settings).activations
    assert relu.validation == {"validation_loss": [0.5, 1.5], "validation_accuracy": [0.9, 0.9]}
    assert gelu.validation["validation_loss"] == [0.5, None]
    plain = Settings(activations=("relu", "gelu"), seeds=2, epochs=1)
    store, configs = prepared(tmp_path / "plain", plain)
    for config in configs:
        finish(store, config)
    results = collect(store, plain)
    assert results.baseline.validation == {}
    assert "validation" not in results.to_dict()["activations"][0]
    assert all("steps" not in c for c in results.to_dict()["activations"][0]["curves"].values())


def test_units_that_died_and_revived_are_counted_run_by_run(tmp_path):
    """Against a count by hand over planted masks; epoch 2 of seed 0 was not counted, and the last line of seed 1 says nothing."""
    store, configs = prepared(tmp_path, Settings(activations=("relu", "gelu"), seeds=2, epochs=3))
    masks = {
        0: [{0, 1}, {1, 2}, None, {3}],  # died 2; then 3, revived 1 and 2 since epoch 1
        1: [{0}, {0, 1, 2}, {0}, "old"],  # died 1 and 2; then they revived
    }
    for config in (config for config in configs if config.activation == "relu"):
        lines = epochs_of(config, sites=("act1",))
        for line, silent in zip(lines, masks[config.seed], strict=True):
            if silent is None:
                del line["sites"]
            elif silent != "old":
                mask = torch.zeros(128, dtype=torch.bool)
                mask[list(silent)] = True
                line["sites"][0] |= {"silent": len(silent), "silent_units": packed(mask)}
        finish(store, config, lines)
    results = collect(store, store.settings(), partial=True)
    [site] = results.baseline.sites
    assert site.died == [None, (1 + 2) / 2, 0, 1]
    assert site.revived == [None, (1 + 0) / 2, 2, 2]
    written = results.to_dict()["activations"][0]["sites"][0]
    assert written["died"] == site.died


def test_runs_of_early_versions_do_not_say_which_units_died(tmp_path):
    store, configs = prepared(tmp_path, Settings(activations=("relu", "gelu"), seeds=1, epochs=1))
    finish(store, configs[0])
    results = collect(store, store.settings(), partial=True)
    assert {(*site.died, *site.revived) for site in results.baseline.sites} == {()}
    assert "died" not in results.to_dict()["activations"][0]["sites"][0]
