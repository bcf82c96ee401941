"""Training goes on after prune_ as it would have without the units."""

import copy

import pytest
import torch
from torch import nn

import undying
from recycling import die, mlp

LEFT = {"conv": [0, 2, 3, 5], "fc": [0, 1, 2, 4, 5, 6]}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        self.fc, self.last = nn.Linear(24, 7), nn.Linear(7, 4)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.act(self.norm(self.conv(x))), 3)
        return self.last(self.act(self.fc(x.flatten(1))))


def sliced(name, value):
    """What is left of a parameter, by hand."""
    pixels = [4 * channel + place for channel in LEFT["conv"] for place in range(4)]
    if name.startswith(("conv", "norm")):
        return value[LEFT["conv"]]
    if name == "fc.weight":
        return value[LEFT["fc"]][:, pixels]
    return value[LEFT["fc"]] if name == "fc.bias" else value[:, LEFT["fc"]] if name == "last.weight" else value


def step(net, optimizer, x, y):
    net.train()
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "amsgrad": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-4, centered=True, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_next_steps_are_those_of_the_whole_network(name):
    net, x, y = Small().double(), torch.randn(32, 3, 8, 8).double(), torch.arange(32) % 4
    die(net.norm.bias, 1, 4)
    nn.init.constant_(net.fc.bias, 2.0)
    die(net.fc.bias, 3)
    optimizer = OPTIMIZERS[name](
        [{"params": [*net.conv.parameters(), *net.norm.parameters()], "lr": 1e-3}, {"params": [*net.fc.parameters(), *net.last.parameters()]}]
    )  # fmt: skip
    for _ in range(3):
        step(net, optimizer, x, y)
    whole = copy.deepcopy((net, optimizer))
    counted = undying.census(net, x)
    report = undying.prune_(net, counted, x, optimizer=optimizer)
    assert report["act"].cut == (1, 4)
    assert report["act#2"].cut == (3,)
    assert [p for group in optimizer.param_groups for p in group["params"]] == [*net.parameters()]
    assert set(optimizer.state) == set(net.parameters())
    for (key, p), (_, old) in zip(net.named_parameters(), whole[0].named_parameters(), strict=True):
        assert torch.equal(p, sliced(key, old))
        assert p.grad.shape == p.shape
        for entry, value in whole[1].state[old].items():
            left = sliced(key, value) if isinstance(value, torch.Tensor) and value.dim() else value
            assert torch.equal(torch.as_tensor(optimizer.state[p][entry]), torch.as_tensor(left)), entry
    for _ in range(20):
        step(*whole, x, y)
        step(net, optimizer, x, y)
    for (key, p), (_, old) in zip(net.named_parameters(), whole[0].named_parameters(), strict=True):
        assert torch.allclose(p, sliced(key, old), atol=1e-9), key
    for key in ("running_mean", "running_var"):
        assert torch.allclose(net.norm.get_buffer(key), whole[0].norm.get_buffer(key)[LEFT["conv"]], atol=1e-9)
    assert len(copy.deepcopy(optimizer).state_dict()["state"]) == 7


def test_a_new_bias_joins_the_group_of_its_weight():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0.0, 2.0
    x = torch.randn(20, 4)
    optimizer = torch.optim.Adam([{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.5}])
    undying.prune_(net, undying.census(net, x), x, optimizer=optimizer)
    assert [id(p) for p in optimizer.param_groups[1]["params"]] == [id(net[2].weight), id(net[2].bias)]
    net(x).sum().backward()
    optimizer.step()


def test_an_optimizer_that_cannot_follow_is_an_error_and_nothing_changes():
    net, x, _ = mlp()
    counted, weights = undying.census(net, x), copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"optimizer does not hold '0\.weight'"):
        undying.prune_(net, counted, x, optimizer=torch.optim.SGD(net[4].parameters(), 0.1))
    with pytest.raises(ValueError, match="LBFGS"):
        undying.prune_(net, counted, x, optimizer=torch.optim.LBFGS(net.parameters()))
    odd = torch.optim.SGD(net.parameters(), 0.1)
    odd.state[net[0].weight]["flat"] = torch.zeros(48)
    with pytest.raises(ValueError, match=r"SGD of '0\.weight' keeps a tensor of shape \(48,\)"):
        undying.prune_(net, counted, x, optimizer=odd)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert net[0].out_features == 8


def test_what_is_kept_by_row_or_column_follows():
    net, x, _ = mlp()
    optimizer = torch.optim.Adafactor(net.parameters())
    net(x).sum().backward()
    optimizer.step()
    row, column = (optimizer.state[net[2].weight][key].clone() for key in ("row_var", "col_var"))
    report = undying.prune_(net, undying.census(net, x), x, optimizer=optimizer)
    rows = [unit for unit in range(9) if unit not in report["3"].cut]
    columns = [unit for unit in range(8) if unit not in report["1"].cut]
    state = optimizer.state[net[2].weight]
    assert torch.equal(state["row_var"], row[rows])
    assert torch.equal(state["col_var"], column[..., columns])
