"""Networks of linear and convolution layers in a row, and policies written for these alone, by layer and by hand."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Row(nn.Module):
    """Layers with a ReLU after each but the last; ``hidden`` keeps what the ReLUs gave, as F.relu or as modules."""

    def __init__(self, *layers, flatten_at=0):
        super().__init__()
        self.layers, self.flatten_at = nn.ModuleList(layers), flatten_at

    def forward(self, x):
        self.hidden = []
        for i, layer in enumerate(self.layers):
            if i == self.flatten_at:
                x = x.flatten(1)
            x = layer(x)
            if i < len(self.layers) - 1:
                x = F.relu(x)
                self.hidden.append(x)
        return x


def mlp():
    return Row(nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(10, 3)), (6,)


def cnn():
    layers = nn.Conv2d(2, 6, 3, stride=2), nn.Conv2d(6, 5, 2), nn.Linear(20, 9), nn.Linear(9, 3)
    return Row(*layers, flatten_at=2), (2, 7, 7)


class Reference:
    """What is the same of all policies: resetting the units of one layer, for SGD without momentum, and for Adam."""

    def __init__(self, net, optimizer, seed):
        self.net, self.optimizer = net, optimizer
        self.generator = torch.Generator().manual_seed(seed)
        self.events = []

    def by_unit(self, h):
        """(samples and places, units)"""
        return h.detach().transpose(1, -1).reshape(-1, h.shape[1])

    def columns(self, i, unit):
        """The part of a tensor shaped as the weight of layer i + 1 that weighs a unit of layer i."""
        weight = self.net.layers[i + 1].weight
        many = weight.shape[1] // self.net.layers[i].weight.shape[0]
        return (slice(None), slice(unit * many, (unit + 1) * many))

    def forget(self, parameter, where):
        parameter.grad[where] = 0
        for value in self.optimizer.state[parameter].values():
            if value.shape == parameter.shape:
                value[where] = 0

    @torch.no_grad()
    def reset(self, chosen):
        """{layer: units}"""
        for i, units in chosen.items():
            for unit in units:
                self.net.layers[i + 1].weight[self.columns(i, unit)] = 0
                self.forget(self.net.layers[i + 1].weight, self.columns(i, unit))
        for i, units in chosen.items():
            layer = self.net.layers[i]
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in (layer.weight, layer.bias):
                shape = (len(units), *parameter.shape[1:])
                parameter[units] = (2 * torch.rand(shape, generator=self.generator) - 1) * bound
                self.forget(parameter, units)
        self.events.append({i: list(units) for i, units in chosen.items()})


class ReDo(Reference):
    def __init__(self, *args, tau, every):
        super().__init__(*args)
        self.tau, self.every, self.steps = tau, every, 0

    def step(self):
        self.steps += 1
        chosen = {}
        if self.steps % self.every == 0:
            for i, h in enumerate(self.net.hidden):
                sizes = self.by_unit(h).abs().mean(0)
                scores = sizes / sizes.mean()
                units = [u for u in range(len(scores)) if scores[u] <= self.tau]
                if units:
                    chosen[i] = units
        self.reset(chosen)
