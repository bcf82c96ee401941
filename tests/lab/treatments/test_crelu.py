"""Concatenated ReLU: by hand, in every network that has the place for it, and refused by name in those that have not."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab.models.small_cnn import small_cnn
from undying.lab.treatments import build_treatment


def crelu(model, x, spec="crelu"):
    return build_treatment(spec).prepare(model, [x])


def both(x, axis=1):
    return torch.cat([F.relu(x), F.relu(-x)], axis)


def test_a_convolutional_network_computes_what_it_does_by_hand():
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    x, before, state = torch.randn(4, 1, 8, 8), copy.deepcopy(model), torch.get_rng_state()
    assert crelu(model, x) == ["3.weight", "7.weight", "9.weight"]
    assert torch.equal(torch.get_rng_state(), state)
    # What is drawn anew has the layers' own range for twice the inputs, and all else is as it was.
    for layer, fan_in in ((model[3], 16 * 9), (model[7], 64), (model[9], 10)):
        largest = float(layer.weight.detach().abs().max())
        assert 0.8 * fan_in**-0.5 < largest <= fan_in**-0.5
    assert all(torch.equal(model[i].bias, before[i].bias) for i in (0, 3, 7, 9))
    assert torch.equal(model[0].weight, before[0].weight)
    model.eval()
    h = both(F.conv2d(x, model[0].weight, model[0].bias))
    h = F.max_pool2d(both(F.conv2d(h, model[3].weight, model[3].bias)), 2).flatten(1)
    h = both(F.linear(h, model[7].weight, model[7].bias))
    torch.testing.assert_close(model(x), F.linear(h, model[9].weight, model[9].bias))
    # The census has both halves of each.
    assert [(site.name, site.units) for site in undying.census(model, x).sites] == [
        ("1.act", 16),
        ("4.act", 16),
        ("8.act", 10),
    ]
    model.train()(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_it_is_drawn_as_the_seed_has_it():
    def made(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        crelu(model, torch.randn(3, 4))
        return model[2].weight

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))


def test_layers_of_one_shape_do_not_begin_alike():
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.ReLU())), nn.Linear(6, 2))
    before = torch.get_rng_state()
    crelu(model, torch.randn(3, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    drawn = [model[i].weight for i in (2, 4, 6)]
    assert not any(torch.equal(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert all(abs(weight).max() <= 12**-0.5 for weight in drawn)  # torch's bound for twice the inputs


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.b(F.relu(self.a(x.flatten(1))))


def test_calls_in_a_forward_where_they_were_converted():
    model, x = Functional(), torch.randn(3, 1, 8, 8)
    undying.convert_(model, nn.ReLU(), functional=True, example=x)
    assert crelu(model, x) == ["a.weight", "b.weight"]  # one module stands for both calls
    h = F.max_pool2d(both(model.conv(x)), 2)
    torch.testing.assert_close(model(x), model.b(both(model.a(h.flatten(1)))))


class Unlike(nn.Module):
    """Calls one activation with units along another axis each time."""

    def __init__(self):
        super().__init__()
        self.act, self.conv, self.a, self.b = nn.ReLU(), nn.Conv1d(2, 6, 1), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.b(self.act(self.a(self.act(self.conv(x)).transpose(1, 2))))


def test_units_along_unlike_axes_of_one_module_are_refused():
    with pytest.raises(
        UndyingError, match=r"crelu cannot change 'act': no single axis of its .* in every call the same"
    ):
        crelu(Unlike(), torch.randn(3, 2, 5))


def test_tokens_and_layer_norms():
    model, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), torch.randn(2, 6, 6)
    assert crelu(model, x, "crelu+layernorm") == ["1.norm.weight", "1.norm.bias", "2.weight"]
    h = both(F.layer_norm(model[0](x), (6,)), -1)
    torch.testing.assert_close(model(x), F.linear(h, model[2].weight, model[2].bias))


def test_concatenated_with_what_has_no_twice():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act, self.b = nn.Linear(4, 6), nn.ReLU(), nn.Linear(10, 2)

        def forward(self, x):
            return self.b(torch.cat([x, self.act(self.a(x))], 1))

    model, x = Joined(), torch.randn(3, 4)
    assert crelu(model, x) == ["b.weight"]
    assert model.b.in_features == 16
    torch.testing.assert_close(model(x), model.b(torch.cat([x, both(model.a(x))], 1)))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[4].weight = model[2].weight
    return model


class Views(nn.Module):
    """Says the size of what it flattens."""

    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(16, 2)

    def forward(self, x):
        return self.b(self.act(self.a(x)).view(-1, 16))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(x + self.act(self.a(x)))


REFUSED = {
    "sum": (Residual(), (4,), "crelu cannot stand in the place of 'act'.*Residual \\(add\\) takes it in"),
    "norm": (
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)),
        (4,),
        "'1'.*2 \\(batch_norm\\) takes it in",
    ),
    "returned": (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (4,), "'1'.*the network returns it"),
    "groups": (
        nn.Sequential(nn.Conv1d(1, 4, 1), nn.ReLU(), nn.Conv1d(4, 4, 1, groups=2)),
        (1, 5),
        "'1'.*2 \\(conv1d\\) weighs it, and is no linear or convolution layer without groups",
    ),
    "tied": (tied(), (4,), "'1'.*2 \\(linear\\) weighs it, and is no"),
    "parametrized": (
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))),
        (4,),
        "'1'.*\\(linear\\) weighs it, and is no",
    ),
    "sizes": (Views(), (1, 4, 4), "the network does not take twice the units"),
    "activation of it": (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh(), nn.Linear(4, 2)), (4,), "2 reads it"),
    "none": (nn.Sequential(nn.Linear(4, 4), nn.GELU()), (4,), "Sequential calls no ReLU module"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_reads_units_in_another_way_is_refused_by_name(what):
    model, shape, said = REFUSED[what]
    with pytest.raises(UndyingError, match=re.compile(said)):
        crelu(copy.deepcopy(model), torch.randn(3, *shape))


def test_the_small_cnn_of_the_lab():
    model, x = small_cnn((1, 8, 8), 10), torch.randn(2, 1, 8, 8)
    assert crelu(model, x) == ["conv2.weight", "conv3.weight", "linear.weight", "head.weight"]
    assert model(x).shape == (2, 10)
