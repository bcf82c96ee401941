"""What first layers read: gamma against closed forms and NumPy, and which layers read the input."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import undying

COUNT = 16


def gamma(net, data, layer="0", **options):
    return undying.census(net, data, **options).inputs[layer].gamma


def mlp():
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU())


def test_closed_forms():
    """Features that are mean +- 1 have gamma = ||mean|| / ||(1, 1)||, whatever their signs."""
    x = torch.tensor([[3.0, -4.0]]) + torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    assert gamma(mlp(), x) == pytest.approx(5 / math.sqrt(2), rel=1e-12)
    assert gamma(mlp(), x - x.mean(0)) == 0
    assert gamma(mlp(), torch.ones(4, 2)) == math.inf
    assert math.isnan(gamma(mlp(), torch.zeros(4, 2)))
    assert math.isnan(gamma(mlp(), torch.tensor([[1.0, math.inf], [1.0, 2.0]])))


def test_gamma_tells_how_many_units_are_dead_from_the_start():
    """Phi(-C / gamma), C = Phi^-1(1 - 1/N), for normal inputs and weights; four deviations of the count of 2,000 units."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 2000), nn.ReLU())
    counted, normal = undying.census(net, torch.randn(1000, 64) + 4), NormalDist()
    expected = normal.cdf(-normal.inv_cdf(1 - 1 / 1000) / counted.inputs["0"].gamma)
    assert counted.dead_fraction == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 2000))


@pytest.mark.parametrize("split", [1, 7, 50])
def test_batches_do_not_matter_and_a_large_mean_costs_no_digits(split):
    """1e8 +- 1, of which squares summed in float64 would leave nothing."""
    x = 1e8 + torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(25)[:, None].repeat(1, 2)
    assert gamma(mlp().double(), x.split(split)) == pytest.approx(1e8, rel=1e-9)


def test_channels_are_pooled_over_positions_as_numpy_does():
    torch.manual_seed(0)
    x = (
        torch.randn(6, 3, 5, 4) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
        + torch.tensor([5.0, 0.0, -1.0])[:, None, None]
    )
    rows = x.double().permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    truth = np.linalg.norm(rows.mean(0)) / np.linalg.norm(rows.std(0))
    counted = undying.census(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), x.split(4))
    assert counted.inputs["0"].gamma == pytest.approx(truth, rel=1e-6)
    assert counted.inputs["0"].values == 6 * 5 * 4
    assert f"layer 0 reads the input: gamma {truth:.3g} (|mean| / std)" in str(counted).splitlines()


class Normalized(nn.Module):
    """Normalizes what it is given, and reads it twice: by a layer on two paths, the second behind an activation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([2.0, 3.0]))
        self.a, self.b, self.c = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = (x.float() - self.mean) / 2
        return self.c(F.relu(self.a(x)) + torch.relu(self.b(F.relu(x.flatten(1)))))


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.out = nn.Embedding(9, 3), nn.Linear(5, 4), nn.Linear(2, 4)

    def forward(self, ids, x):
        return F.relu(self.mix(torch.cat([self.embed(ids), x], 1))) + F.relu(self.out(x))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.out = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 4)

    def forward(self, x):
        return F.relu(self.out(self.gru(x)[1][0]))


@pytest.mark.parametrize(
    ("make", "data", "layers"),
    [
        (Normalized, torch.randint(0, 5, (8, 2)), ["a", "b"]),
        (Joined, {"ids": torch.arange(8), "x": torch.randn(8, 2)}, ["out"]),  # mix reads what an embedding made too
        (Recurrent, torch.randn(8, 5, 2), ["gru"]),
        (Recurrent, pack_sequence([torch.randn(5, 2), torch.randn(3, 2)]), ["gru"]),
        (lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 4), nn.ReLU()), torch.randn(8, 2), ["1"]),
        (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.ReLU()), torch.arange(8), []),
        (lambda: nn.Sequential(nn.ReLU(), nn.Linear(2, 4), nn.ReLU()), torch.randn(8, 2), ["1"]),
    ],
    ids=["normalized", "joined", "recurrent", "packed", "a norm", "tokens", "an activation"],
)
def test_which_layers_read_the_input(make, data, layers):
    counted = undying.census(make(), data)
    assert list(counted.inputs) == layers


def test_it_is_what_the_layer_reads_and_not_what_the_network_is_given():
    x = torch.randint(0, 9, (COUNT, 2))
    rows = (x.double().numpy() - [2, 3]) / 2
    found = undying.census(Normalized(), x).inputs
    assert found["a"].gamma == pytest.approx(np.linalg.norm(rows.mean(0)) / np.linalg.norm(rows.std(0)), rel=1e-6)
    rows = rows.clip(min=0)
    assert found["b"].gamma == pytest.approx(np.linalg.norm(rows.mean(0)) / np.linalg.norm(rows.std(0)), rel=1e-6)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(2, 4)

    def forward(self, x, mask):
        return F.relu(self.lin(x))


def test_padded_positions_do_not_count():
    x, mask = torch.randn(3, 5, 2) + 1, torch.arange(5) < torch.tensor([[5], [2], [0]])
    rows = x[mask].double().numpy()
    truth = np.linalg.norm(rows.mean(0)) / np.linalg.norm(rows.std(0))
    batches = [{"x": x[:1], "mask": mask[:1]}, {"x": x[2:], "mask": mask[2:]}, {"x": x[1:2], "mask": mask[1:2]}]
    counted = undying.census(Tokens(), batches, mask="mask")
    assert counted.inputs["lin"].gamma == pytest.approx(truth, rel=1e-9)
    assert counted.inputs["lin"].values == 7


def test_where_a_mask_does_not_fit_the_input_nothing_is_said():
    class Flat(Tokens):
        def forward(self, x, mask):
            return F.relu(self.lin(x.reshape(-1, 2)).view(3, 5, 4))

    class Turned(Tokens):
        def forward(self, x, mask):
            return F.relu(self.lin(x.flip(1)).sum(1))

    x, mask = torch.randn(3, 5, 2), torch.arange(5) < torch.tensor([[5], [2], [1]])
    assert undying.census(Flat(), {"x": x, "mask": mask}, mask="mask").inputs["lin"].values == 8
    assert undying.census(Turned(), {"x": x, "mask": mask}, mask="mask", axes={"relu": 1}).inputs == {}


def test_sums_and_files_keep_it():
    x = torch.randn(20, 2) + 3
    one, other, whole = (undying.census(mlp(), part) for part in (x[:6], x[6:], x))
    both = (one + other).inputs["0"]
    assert (both.values, both.gamma) == (20, pytest.approx(whole.inputs["0"].gamma, rel=1e-6))
    again = undying.Census.from_dict(whole.to_dict()).inputs["0"]
    assert (again.values, again.gamma) == (20, whole.inputs["0"].gamma)
    old = whole.to_dict()
    del old["inputs"]
    assert undying.Census.from_dict(old).inputs == {}
    for bad in (
        {"values": 0, "mean": [1.0], "variance": 1.0},
        {"values": 3, "mean": "x", "variance": 1.0},
        {"values": 3},
    ):
        with pytest.raises(ValueError, match=r"an input of|hold a census"):
            undying.Census.from_dict({**whole.to_dict(), "inputs": {"0": bad}})
