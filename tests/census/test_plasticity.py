"""Ranks of features against closed forms and NumPy's singular values; weight norms against torch."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import undying
from undying.census import accumulators, counting


class Identity(nn.Module):
    """relu of what it is given, as features."""

    def forward(self, x, mask=None):
        return F.relu(x)


def truth(features):
    """(effective rank, srank) of a matrix, from its own singular values."""
    values = np.linalg.svd(np.asarray(features, dtype=np.float64), compute_uv=False)
    shares = values / values.sum()
    some = shares[shares > 1e-12]
    return float(np.exp(-(some * np.log(some)).sum())), int(np.argmax(np.cumsum(shares) >= 0.99)) + 1


def found(model, data, site="relu", **options):
    row = undying.plasticity(model, data, **options)[site]
    return row.effective_rank, row.srank


def test_closed_forms():
    one = torch.arange(1.0, 13)[:, None] * torch.tensor([1.0, 2.0, 0.0, 3.0])
    assert found(Identity(), one) == (pytest.approx(1, abs=1e-6), 1)
    assert found(Identity(), torch.eye(6)) == (pytest.approx(6, rel=1e-12), 6)
    assert found(Identity(), torch.cat([torch.eye(6), -torch.eye(6)])) == (pytest.approx(6, rel=1e-12), 6)
    assert found(Identity(), -torch.eye(6)) == (0.0, 0)
    # Singular values 3 and 1: entropy of (3/4, 1/4).
    two = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert found(Identity(), torch.diag(torch.tensor([3.0, 1.0]))) == (pytest.approx(two, rel=1e-12), 2)
    # 99 : 1 of the sum is in the first.
    assert found(Identity(), torch.diag(torch.tensor([996.0, 4.0])))[1] == 1
    assert found(Identity(), torch.diag(torch.tensor([984.0, 16.0])))[1] == 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.out = nn.Conv2d(2, 6, 3), nn.Linear(6, 20), nn.Linear(20, 3)

    def forward(self, x):
        return self.out(F.gelu(self.fc(F.relu(self.conv(x)).mean((2, 3)))))


@pytest.mark.parametrize("size", [1, 5, 30])
def test_brute_force_whatever_the_batches(size):
    torch.manual_seed(0)
    net, x = Net(), torch.randn(30, 2, 6, 5)
    maps = F.relu(net.conv(x))
    features = {"relu": maps.permute(0, 2, 3, 1).reshape(-1, 6), "gelu": F.gelu(net.fc(maps.mean((2, 3))))}
    table = undying.plasticity(net, x.split(size))
    for site, rows in features.items():
        effective, srank = truth(rows.detach())
        assert table[site].effective_rank == pytest.approx(effective, rel=1e-5)
        assert table[site].srank == srank
    census = undying.census(net, x)
    for row in table.rows:
        assert row.site.score.tolist() == pytest.approx(census[row.site.name].score.tolist())


def test_large_maps_are_added_up_in_parts(monkeypatch):
    monkeypatch.setattr(accumulators, "_CHUNK", 50)
    torch.manual_seed(0)
    net, x = Net(), torch.randn(7, 2, 6, 5)
    assert found(net, x)[0] == pytest.approx(
        truth(F.relu(net.conv(x)).detach().transpose(0, 1).flatten(1).T)[0], rel=1e-5
    )


def test_padded_positions_do_not_count():
    x, mask = torch.randn(3, 4, 5), torch.arange(4) < torch.tensor([[4], [2], [1]])
    x = torch.where(mask[..., None], x, torch.nan)
    batch = {"x": x, "mask": mask}
    effective, srank = truth(F.relu(x[mask]))
    assert found(Identity(), batch, mask="mask", axes={"relu": 2}) == (pytest.approx(effective, rel=1e-6), srank)


def test_features_that_are_not_finite_have_no_rank():
    table = undying.plasticity(Identity(), torch.tensor([[1.0, math.inf], [1.0, 2.0]]))
    assert math.isnan(table["relu"].effective_rank)
    assert table["relu"].srank is None
    assert table.to_dict()["rows"][0]["effective_rank"] == "nan"
    assert "relu: 1 pre-activations are infinite or NaN, in 1 units" in str(table)


def test_a_site_that_is_too_wide_has_no_rank_and_is_named(monkeypatch):
    monkeypatch.setattr(counting, "WIDEST", 8)
    table = undying.plasticity(Net(), torch.randn(40, 2, 6, 5))
    assert table["gelu"].effective_rank is None
    assert table["relu"].effective_rank is not None
    assert "gelu: no rank, as it has more than 4096 units" in str(table).splitlines()


def test_fewer_values_than_units_are_told():
    assert "gelu: no rank can be above the 7 values that it saw" in str(
        undying.plasticity(Net(), torch.randn(7, 2, 6, 5))
    )


class Many(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.attention = nn.Embedding(9, 8), nn.LSTM(8, 8), nn.MultiheadAttention(8, 2)
        self.lin, self.own, self.norm = weight_norm(nn.Linear(8, 6)), nn.Parameter(torch.randn(6, 4)), nn.LayerNorm(4)

    def forward(self, ids):
        x = F.relu(self.lstm(self.embed(ids))[0])
        x = F.relu(self.attention(x, x, x)[0])
        return F.relu(self.norm(F.relu(self.lin(x)) @ self.own))


def test_weight_norms():
    torch.manual_seed(0)
    net = Many()
    table = undying.plasticity(net, torch.randint(0, 9, (5, 4)))
    lstm = torch.cat([net.lstm.weight_ih_l0.flatten(), net.lstm.weight_hh_l0.flatten()]).norm()
    expected = {
        "embed": net.embed.weight.norm(), "lstm": lstm, "attention": net.attention.in_proj_weight.norm(),
        "attention.out_proj": net.attention.out_proj.weight.norm(), "lin": net.lin.weight.norm(), "own": net.own.norm(),
    }  # fmt: skip
    assert table.weight_norms == pytest.approx(
        {name: float(norm.detach()) for name, norm in expected.items()}, rel=1e-6
    )
    assert [row.weight_norm for row in table.rows] == [table.weight_norms[row.site.layer] for row in table.rows]
    assert [row.site.layer for row in table.rows] == ["lstm", "attention", "lin", "own"]


def test_every_form_of_it():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    table = undying.plasticity(torch.compile(net), torch.randn(20, 3), tau=0.5)
    lines = str(table).splitlines()
    assert lines[0].split() == [
        "layer",
        "->",
        "site",
        "units",
        "silent",
        "dormant",
        "eff.",
        "rank",
        "srank",
        "weight",
        "norm",
    ]
    dormant = 100 * table.census.dormant_fraction
    assert lines[1].split()[:7] == ["0", "->", "1", "8", "-", f"{dormant:.1f}", "%"]
    assert lines[2] == f"weight norms of other layers: 2 {table.weight_norms['2']:.4g}"
    assert lines[3].startswith("layer 0 reads the input: gamma ")
    content = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert content["rows"][0] == {
        "site": "1", "layer": "0", "units": 8, "values": 20, "silent": None, "dormant": dormant / 100,
        "effective_rank": table["1"].effective_rank, "srank": table["1"].srank, "weight_norm": table.weight_norms["0"],
    }  # fmt: skip
    assert repr(table) == str(table)
    assert table._repr_html_().startswith("<table><tr><th>site</th>")
    assert "<td>0 -&gt; 1</td>" in table._repr_html_()
    with pytest.raises(KeyError, match="no site 'nope'"):
        table["nope"]
    assert tuple(table) == table.rows
    assert len(table) == len(table.rows)


class Listed(nn.Module):
    """Takes a list of two inputs, and fails only after its activation where it is given them apart."""

    def forward(self, *x):
        h = F.relu(x[0][0] if isinstance(x[0], list) else x[0])
        if not isinstance(x[0], list):
            raise TypeError("not a list")
        return h


def test_a_first_try_that_fails_leaves_nothing_behind():
    assert found(Listed(), [[torch.eye(4), torch.eye(4)]]) == (pytest.approx(4, rel=1e-12), 4)


def test_errors_are_those_of_the_census():
    with pytest.raises(ValueError, match="no batch"):
        undying.plasticity(Identity(), [])
    with pytest.raises(ValueError, match="tau"):
        undying.plasticity(Identity(), torch.eye(3), tau=-1)
    with pytest.raises(ValueError, match="skip"):
        undying.plasticity(Identity(), torch.eye(3), skip="nope")
