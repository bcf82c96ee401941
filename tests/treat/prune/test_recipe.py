"""Recipes shape fresh networks, and say what is wrong with them."""

import copy
import itertools
import json

import pytest
import torch
from torch import nn

import undying
from recycling import CASES, die, mlp, output, same, state


def recipe(shapes=None, /, **modules):
    return {"kind": "undying.Recipe", "format": 2, "model": "Sequential", "modules": modules, "shapes": shapes or {}}


def linears(*sizes):
    """Shapes of layers between activations."""
    layers = {str(2 * i): pair for i, pair in enumerate(itertools.pairwise(sizes))}
    return {f"{i}.{key}": s for i, (n, m) in layers.items() for key, s in (("weight", [m, n]), ("bias", [m]))}


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
        linears(6, 6, 6, 3),
        **{
            "0": {"outputs": {"of": 8, "kept": [[0, 1], [2, 4], [5, 8]]}},
            "2": {
                "outputs": {"of": 9, "kept": [[1, 5], [6, 8]]},
                "inputs": {"of": 8, "kept": [[0, 1], [2, 4], [5, 8]]},
            },
            "4": {"inputs": {"of": 9, "kept": [[1, 5], [6, 8]]}},
        },
    )


def test_rows_of_the_fresh_network_are_its_own():
    net, _, _ = mlp()
    old = state(net)
    undying.apply_recipe_(
        net,
        recipe(
            linears(6, 8, 2, 3),
            **{"2": {"outputs": {"of": 9, "kept": [[3, 5]]}}, "4": {"inputs": {"of": 9, "kept": [[3, 5]]}}},
        ),
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
    shapes = {"0.weight": [6, 2, 3, 3], "0.bias": [6], "1.weight": [6, 3, 3, 3], "1.bias": [9]}
    undying.apply_recipe_(net, recipe(shapes, **{"0": entry}))
    assert torch.allclose(conv(x[:, [0, 1, 4, 5]]), truth[0], atol=1e-6)
    undying.apply_recipe_(net, recipe(shapes | {"1.weight": [4, 3, 3, 3], "1.bias": [6]}, **{"1": entry}))
    assert torch.allclose(turned(x[:, [0, 1, 4, 5]]), truth[1], atol=1e-6)
    for entry, problem in [
        ({"outputs": {"of": 6, "kept": [[0, 3]]}}, "other groups of the outputs"),
        ({"inputs": {"of": 4, "kept": [[0, 1], [2, 4]]}}, "within a group"),
    ]:
        with pytest.raises(ValueError, match=problem):
            undying.apply_recipe_(net, recipe(**{"0": entry}))


NESTED = []
for _ in range(10**5):
    NESTED = [NESTED]

WRONG = {
    "not a recipe": {},
    "has format 3, and this undying reads up to 2: upgrade": recipe() | {"format": 3},
    "damaged recipe: modules": recipe() | {"modules": [1]},
    "cuts 'head', which Sequential does not have": recipe(head={}),
    "is a ReLU here": recipe(**{"1": {}}),
    "has 8 outputs and the recipe is of one with 16: give a network as it was": recipe(
        **{"2": {"inputs": {"of": 8, "kept": [[0, 2]]}}, "0": {"outputs": {"of": 16, "kept": [[0, 2]]}}}
    ),
    "not runs that rise from 0 to 8": recipe(**{"0": {"outputs": {"of": 8, "kept": [[0, 9]]}}}),
    "not runs that rise": recipe(**{"0": {"outputs": {"of": 8, "kept": [[4, 6], [5, 8]]}}}),
    "hold \\[3, 100000000000\\], not runs that rise from 0 to 8": recipe(
        **{"0": {"outputs": {"of": 8, "kept": [[3, 10**11]]}}}
    ),
    "hold \\[0, 0\\], not runs that rise": recipe(**{"0": {"outputs": {"of": 8, "kept": [[0, 0], [1, 8]]}}}),
    "hold \\[-1, 3\\], not runs that rise": recipe(**{"0": {"outputs": {"of": 8, "kept": [[-1, 3]]}}}),
    "hold \\[3, 8\\], not runs that rise from 0 to 8": recipe(**{"0": {"outputs": {"of": 8, "kept": [[3, 8]] * 2}}}),
    "kept of '0' are \\[\\], not runs": recipe(**{"0": {"outputs": {"of": 8, "kept": []}}}),
    "no pair of numbers": recipe(**{"0": {"outputs": {"of": 8, "kept": [1, 2]}}}),
    "damaged recipe: outputs of '0'": recipe(**{"0": {"outputs": [1, 2]}}),
    "damaged recipe: '0' is": recipe(**{"0": {"rows": 3}}),
    "'0' is {'rows': \\[\\[": recipe(**{"0": {"rows": NESTED}}),
    "outputs kept of '0' hold \\[\\[": recipe(**{"0": {"outputs": {"of": 8, "kept": [NESTED]}}}),
    "'0.weight' would have the shape \\[5, 6\\], and the recipe's network has \\[6, 6\\]": recipe(
        linears(6, 6, 9, 3), **{"0": {"outputs": {"of": 8, "kept": [[0, 5]]}}}
    ),
    "damaged recipe: shapes is None": {k: v for k, v in recipe().items() if k != "shapes"},
    "damaged recipe: shapes is {'0.weight': 3}": recipe({"0.weight": 3}),
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


def damaged(name):
    def deleted(recipe):
        del recipe["modules"]["4"]

    def left_out(recipe):
        del recipe["modules"]["0"]["outputs"]

    def renamed(recipe):
        recipe["shapes"]["5.weight"] = recipe["shapes"].pop("4.weight")

    return {"deleted": deleted, "left out": left_out, "renamed": renamed}[name]


@pytest.mark.parametrize("damage", ["deleted", "left out", "renamed"])
def test_a_recipe_that_does_not_fit_together_is_an_error(damage):
    net, x, _ = mlp()
    fresh = copy.deepcopy(net)
    recipe = copy.deepcopy(undying.prune_(net, undying.census(net, x), x).recipe)
    damaged(damage)(recipe)
    weights, shapes = state(fresh), str(fresh)
    with pytest.raises(ValueError, match=r"the recipe's network has .* nothing was changed"):
        undying.apply_recipe_(fresh, recipe)
    assert same(weights, fresh.state_dict())
    assert str(fresh) == shapes


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (lambda: nn.Conv2d(3, 6, 5), "0.weight"),
        (lambda: nn.Conv2d(3, 6, 3, bias=False), "0.bias"),
        (lambda: nn.Conv1d(3, 6, 3), "0.weight"),
        (lambda: nn.ConvTranspose2d(3, 6, 3), "0.weight"),
    ],
)
def test_a_network_with_other_layers_is_refused(other, name):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    die(net[0].bias, 2)
    x = torch.randn(4, 3, 8, 8)
    report = undying.prune_(net, undying.census(net, x), x)
    assert report["1"].cut == (2,)
    with pytest.raises(ValueError, match=f"'{name}' would have"):
        undying.apply_recipe_(nn.Sequential(other(), nn.ReLU(), nn.Conv2d(6, 4, 3)), report.recipe)
    with pytest.raises(ValueError, match=r"'3\.weight' would have"):
        undying.apply_recipe_(
            nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 4, 1)), report.recipe
        )


FILES = {
    '"modules" twice': ('{"kind": "undying.Recipe", "format": 2, "modules": {}, "modules": {}, "shapes": {}}'),
    '"0" twice': ('{"kind": "undying.Recipe", "format": 2, "modules": {"0": {}, "0": {}}, "shapes": {}}'),
    "not a recipe: RecursionError": "[" * 10**6,
}


@pytest.mark.parametrize("problem", FILES)
def test_files_that_say_something_twice_or_nest_without_end_are_errors(problem, tmp_path):
    (tmp_path / "recipe.json").write_text(FILES[problem])
    with pytest.raises(ValueError, match=f"recipe.json: .*{problem}"):
        undying.apply_recipe_(mlp()[0], tmp_path / "recipe.json")


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
