"""What holds tensors is compared by value, and asked for a site by its name."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

import undying

X = torch.linspace(-1, 1, 24).reshape(6, 4)


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    nn.init.constant_(net[0].bias[:2].data, -9.0)
    return net


def pruned():
    net = network()
    return undying.prune_(net, undying.census(net, X), X, data=X)


MADE = {
    "Census": lambda: undying.census(network(), X, examples=2),
    "Certificate": lambda: undying.certify(network(), undying.Box(-torch.ones(1, 4), torch.ones(1, 4))),
    "Plasticity": lambda: undying.plasticity(network(), X),
    "PruneReport": pruned,
    "RecycleReport": lambda: undying.recycle_(network(), None, probe=X),
}


@pytest.mark.parametrize("name", MADE)
def test_equal_by_value_and_a_site_is_in_it_by_its_name(name):
    made = MADE[name]()
    assert made == copy.deepcopy(made)
    assert made != 1
    assert "1" in made
    assert "2" not in made
    assert made["1"] == copy.deepcopy(made["1"])


def test_a_unit_of_another_kind_makes_them_differ():
    census, other = MADE["Census"](), MADE["Census"]()
    other["1"].fired[3] += 1
    assert census != other
    assert census["1"] != other["1"]


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        (torch.tensor([math.nan, 1.0, 2.0]), True),
        (torch.tensor([0.0, 1.0, math.nan]), False),
        (torch.tensor([math.nan, 1.0]), False),
        (torch.tensor([math.nan, 1.0, 2.0], dtype=torch.float64), False),
    ],
)
def test_nan_is_as_nan_and_shapes_and_types_count(change, equal):
    one = MADE["Certificate"]()["1"]
    nan = dataclasses.replace(one, upper=torch.tensor([math.nan, 1.0, 2.0]))
    assert (nan == dataclasses.replace(one, upper=change)) is equal
    assert dataclasses.replace(one, upper=None) != nan


def test_a_certificate_is_a_mapping():
    certificate = MADE["Certificate"]()
    assert dict(certificate) == {"1": certificate["1"]}
    assert certificate.get("2") is None
