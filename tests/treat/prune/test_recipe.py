"""Recipes shape fresh networks, and say what is wrong with them."""

import copy
import json

import pytest
import torch
from torch import nn

import undying
from recycling import CASES, die, mlp, output, same, state


def recipe(**modules):
    return {"kind": "undying.Recipe", "format": 1, "model": "Sequential", "modules": modules}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_fresh_network_takes_the_shape_and_the_weights(case):
    net, x, _ = case()
    report = undying.prune_(net, undying.census(net, x), x)
    fresh, _, _ = case()
    undying.apply_recipe_(fresh, json.loads(json.dumps(report.recipe)))
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(output(fresh, x), output(net, x))
    assert str(fresh) == str(net)  # every number of features, channels and groups


def test_the_recipe_is_what_was_kept():
    net, x, _ = mlp()
    report = undying.prune_(net, undying.census(net, x), x)
    assert report.recipe == recipe(
        **{
            "0": {"outputs": {"of": 8, "kept": [[0, 1], [2, 4], [5, 8]]}},
            "2": {
                "outputs": {"of": 9, "kept": [[1, 5], [6, 8]]},
                "inputs": {"of": 8, "kept": [[0, 1], [2, 4], [5, 8]]},
            },
            "4": {"inputs": {"of": 9, "kept": [[1, 5], [6, 8]]}},
        }
    )


def test_rows_of_the_fresh_network_are_its_own():
    net, _, _ = mlp()
    old = state(net)
    undying.apply_recipe_(
        net, recipe(**{"2": {"outputs": {"of": 9, "kept": [[3, 5]]}}, "4": {"inputs": {"of": 9, "kept": [[3, 5]]}}})
    )
    assert torch.equal(net[2].weight, old["2.weight"][3:5])
    assert torch.equal(net[4].weight, old["4.weight"][:, 3:5])
    assert net[2].weight.requires_grad


def test_networks_without_memory_take_recipes():
    net, x, _ = mlp()
    report = undying.prune_(net, undying.census(net, x), x)
    with torch.device("meta"):
        fresh = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))
    undying.apply_recipe_(fresh, report.recipe)
    fresh.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(output(fresh, x), output(net, x))


def test_whole_groups_of_a_convolution_go():
    """By hand, since torch-pruning cuts none; torch's own convolution of the groups that are left is the truth."""
    conv, turned = nn.Conv2d(6, 9, 3, groups=3), nn.ConvTranspose2d(6, 9, 3, groups=3)
    x = torch.randn(2, 6, 5, 5)
    truth = [layer(x)[:, [0, 1, 2, 6, 7, 8]] for layer in (conv, turned)]
    net = nn.ModuleList([conv, turned])
    entry = {"outputs": {"of": 9, "kept": [[0, 3], [6, 9]]}, "inputs": {"of": 6, "kept": [[0, 2], [4, 6]]}}
    undying.apply_recipe_(net, recipe(**{"0": entry}))
    assert torch.allclose(conv(x[:, [0, 1, 4, 5]]), truth[0], atol=1e-6)
    undying.apply_recipe_(net, recipe(**{"1": entry}))
    assert torch.allclose(turned(x[:, [0, 1, 4, 5]]), truth[1], atol=1e-6)
    for entry, problem in [
        ({"outputs": {"of": 6, "kept": [[0, 3]]}}, "other groups of the outputs"),
        ({"inputs": {"of": 4, "kept": [[0, 1], [2, 4]]}}, "within a group"),
    ]:
        with pytest.raises(ValueError, match=problem):
            undying.apply_recipe_(net, recipe(**{"0": entry}))


WRONG = {
    "not a recipe": {},
    "has format 2, and this undying reads up to 1: upgrade": recipe() | {"format": 2},
    "damaged recipe: modules": recipe() | {"modules": [1]},
    "cuts 'head', which Sequential does not have": recipe(head={}),
    "is a ReLU here": recipe(**{"1": {}}),
    "has 8 outputs and the recipe is of one with 16: give a network as it was": recipe(
        **{"2": {"inputs": {"of": 8, "kept": [[0, 2]]}}, "0": {"outputs": {"of": 16, "kept": [[0, 2]]}}}
    ),
    "not runs that rise from 0 to 8": recipe(**{"0": {"outputs": {"of": 8, "kept": [[0, 9]]}}}),
    "not runs that rise": recipe(**{"0": {"outputs": {"of": 8, "kept": [[4, 6], [5, 8]]}}}),
    "kept of '0' are \\[\\], not runs": recipe(**{"0": {"outputs": {"of": 8, "kept": []}}}),
    "no pair of numbers": recipe(**{"0": {"outputs": {"of": 8, "kept": [1, 2]}}}),
    "damaged recipe: outputs of '0'": recipe(**{"0": {"outputs": [1, 2]}}),
    "damaged recipe: '0' is": recipe(**{"0": {"rows": 3}}),
    "adds a bias to '0', which has one": recipe(**{"0": {"bias": "added"}}),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_wrong_is_said_and_nothing_changes(problem):
    net, _, _ = mlp()
    weights, shapes = state(net), str(net)
    with pytest.raises(ValueError, match=problem):
        undying.apply_recipe_(net, WRONG[problem])
    assert same(weights, net.state_dict())
    assert str(net) == shapes


def test_a_recipe_twice_or_a_file_that_is_none_is_an_error(tmp_path):
    net, x, _ = mlp()
    fresh = copy.deepcopy(net)
    report = undying.prune_(net, undying.census(net, x), x)
    undying.apply_recipe_(fresh, report.recipe)
    with pytest.raises(ValueError, match="apply the recipe once"):
        undying.apply_recipe_(fresh, report.recipe)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe\.json: not a recipe"):
        undying.apply_recipe_(fresh, tmp_path / "recipe.json")
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(ValueError, match="but a list"):
        undying.apply_recipe_(fresh, str(tmp_path / "recipe.json"))


def test_biases_are_added_where_the_recipe_says():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
    die(net[0].bias, 2)
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0.0, 2.0
    x = torch.randn(20, 4)
    before = output(net, x)
    report = undying.prune_(net, undying.census(net, x), x)
    assert report.recipe["modules"]["2"]["bias"] == "added"
    fresh = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
    undying.apply_recipe_(fresh, report.recipe)
    fresh.load_state_dict(net.state_dict())
    assert torch.allclose(output(fresh, x), before, atol=1e-5)
