"""The layer that a census names is the one whose output channel j makes unit j, and no other."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import undying


class Functional(nn.Module):
    """All activations are calls, so that the names of the sites tell nothing."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, groups=2)
        self.fc1, self.own, self.fc2 = nn.Linear(8 * 4, 10), nn.Parameter(torch.randn(10, 12)), nn.Linear(12, 7)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = F.adaptive_avg_pool2d(F.gelu(0.5 * self.conv2(x)), 2).flatten(1)
        x = F.relu(F.dropout(self.fc1(x), 0.5, self.training)) @ self.own
        return F.relu(F.layer_norm(self.fc2(F.relu(x)), (7,)))


class Odd(nn.Module):
    """What no layer makes alone, or makes in another order."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 8)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        F.relu(a + b)
        F.relu(torch.cat([a, b], 1))
        F.relu(a.view(-1, 2, 4).transpose(1, 2).reshape(-1, 8))  # shuffled
        F.relu(a.chunk(2, 1)[1])
        F.relu(a * torch.sigmoid(b))
        F.relu(x)
        F.relu(F.linear(x, self.a.weight[4:]))
        a = a.clone()
        a[:, 3] = x[:, 0]
        F.relu(a)
        return F.relu(self.c(F.relu(b)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attn, self.norm = nn.Embedding(9, 8), nn.MultiheadAttention(8, 2), nn.LayerNorm(8)
        self.place, self.mlp, self.lstm = nn.Parameter(torch.randn(20, 8)), nn.Linear(8, 8), nn.LSTM(8, 5)

    def forward(self, ids):
        x = self.embed(ids)
        F.relu(x + self.place[: ids.shape[1]])
        F.relu(self.attn(x, x, x)[0])
        F.relu(self.mlp(self.norm(x)).transpose(1, 2))
        return F.relu(self.lstm(x)[0])


NETWORKS = {
    "calls": (Functional, torch.randn(4, 3, 12, 12), ["conv1", "conv2", "fc1", "own", "fc2"]),
    "odd": (Odd, torch.randn(4, 6), [None, None, None, None, "b", None, None, None, None, "b", "c"]),
    "tokens": (Tokens, torch.randint(0, 9, (4, 5)), ["embed", "attn", "mlp", "lstm"]),
    "computed weight": (
        lambda: nn.Sequential(weight_norm(nn.ConvTranspose1d(3, 5, 1)), nn.Tanh(), nn.ReLU()), torch.randn(4, 3, 6), ["0", "0"],
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(36), nn.ReLU()),
        torch.randn(5, 3, 2, 2), ["0", None],
    ),
    "the network itself": (lambda: type("Lin", (nn.Linear,), {"forward": lambda s, x: F.relu(F.linear(x, s.weight))})(6, 5), torch.randn(4, 6), ["(root)"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layer_of_each_site(name):
    torch.manual_seed(0)
    make, x, layers = NETWORKS[name]
    counted = undying.census(make(), [x])
    assert [site.layer for site in counted.sites] == layers
    assert [site.layer for site in undying.Census.from_dict(counted.to_dict()).sites] == layers


def test_a_channel_of_the_layer_makes_that_unit():
    """Moving the bias of channel j moves the peak of unit j, by as much, and of no other."""
    torch.manual_seed(0)
    net, x = Functional().double().eval(), torch.randn(4, 3, 12, 12, dtype=torch.float64)
    before = undying.census(net, [x])
    for site, scale in (("relu", 1.0), ("gelu", 0.5), ("relu#2", 1.0)):
        layer = net.get_submodule(before[site].layer)
        with torch.no_grad():
            layer.bias[2] += 100
        after = undying.census(net, [x])
        with torch.no_grad():
            layer.bias[2] -= 100
        moved = torch.zeros(before[site].units, dtype=torch.float64)
        moved[2] = 100 * scale / (1 + 1e-5) ** 0.5 if site == "relu" else 100 * scale  # through batch norm
        torch.testing.assert_close(after[site].peak - before[site].peak, moved)


def test_the_table_names_the_layer_before_each_site():
    counted = undying.census(Functional(), torch.randn(4, 3, 12, 12))
    lines = counted.table().splitlines()
    assert [line[:15] for line in lines[:6]] == [
        "layer -> site  ",
        "conv1 -> relu  ",
        "conv2 -> gelu  ",
        "  fc1 -> relu#2",
        "  own -> relu#3",
        "  fc2 -> relu#4",
    ]
    assert counted["relu#2"].label == "fc1 -> relu#2"
    assert "<td>fc1 -&gt; relu#2</td>" in counted._repr_html_()
    assert "->" not in undying.census(nn.ReLU(), torch.randn(4, 3)).table()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(512, 512, 1), nn.Conv2d(512, 512, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.conv2(self.relu(self.conv1(x))))


def test_names_as_in_a_resnet_fit_80_columns():
    """A layer is named from its dot on in the module of its site, and a sum of two has none."""
    net = nn.Module()
    net.layer4 = nn.Sequential(Residual(), Residual())
    net.forward = net.layer4.forward
    lines = undying.census(net, torch.randn(1, 512, 1, 1).expand(1000, -1, -1, -1)).table().splitlines()
    assert [line.partition("  ReLU")[0] for line in lines[1:5]] == [
        ".conv1 -> layer4.0.relu  ",
        "          layer4.0.relu#2",
        ".conv1 -> layer4.1.relu  ",
        "          layer4.1.relu#2",
    ]
    assert max(map(len, lines)) <= 80


class Block(nn.Module):
    act = nn.SiLU()

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.act = nn.Conv2d(inputs, outputs, 1), Block.act

    def forward(self, x):
        return self.act(self.conv(x))


def test_calls_of_one_shared_activation_are_named_after_their_places():
    act, x = nn.ReLU(), torch.rand(2, 3, 4, 4)
    blocks = nn.Sequential(Block(3, 8), Block(8, 8), nn.Sequential(Block(8, 4), act, nn.Conv2d(4, 4, 1), act), act)
    names = ["0.act", "1.act", "2.0.act", "2.1", "2.3", "3"]
    counted = undying.census(blocks, [x, x])
    assert list(counted) == names
    assert [site.layer for site in counted.sites] == ["0.conv", "1.conv", "2.0.conv", "2.0.conv", "2.2", "2.2"]
    assert [site.name for site in undying.certify(blocks, (x[0], x[0] + 1)).sites] == names
    same = nn.Sequential(blocks[0], nn.Conv2d(8, 3, 1), blocks[0])  # a block at two places has one
    assert list(undying.census(same, x)) == ["0.act", "0.act#2"]
    assert list(undying.census(nn.Sequential(act, nn.Sequential(act)), x, axes={"0": 1, "1.0": 1})) == ["0", "1.0"]
