"""Networks of linear and convolution layers in a row, and policies written for these alone, by layer and by hand."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Row(nn.Module):
    """Layers with a ReLU after each but the last; keeps what reached and what left the ReLUs."""

    def __init__(self, *layers, act=F.relu, flatten_at=0):
        super().__init__()
        self.layers, self.act, self.flatten_at = nn.ModuleList(layers), act, flatten_at

    def forward(self, x):
        self.before, self.hidden = [], []
        for i, layer in enumerate(self.layers):
            if i == self.flatten_at:
                x = x.flatten(1)
            x = layer(x)
            if i < len(self.layers) - 1:
                self.before.append(x)
                if x.requires_grad:
                    x.retain_grad()
                x = self.act(x)
                self.hidden.append(x)
        return x


def mlp():
    return Row(nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(10, 3)), (6,)


def cnn():
    layers = nn.Conv2d(2, 6, 3, stride=2), nn.Conv2d(6, 5, 2), nn.Linear(20, 9), nn.Linear(9, 3)
    return Row(*layers, act=nn.ReLU(), flatten_at=2), (2, 7, 7)


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


class Dormancy(Reference):
    def __init__(self, *args, tau, every):
        super().__init__(*args)
        self.tau, self.every, self.steps = tau, every, 0

    def step(self):
        self.steps += 1
        chosen = {}
        for i, sizes in enumerate(self.sizes() if self.steps % self.every == 0 else []):
            scores = sizes / sizes.mean()
            units = [u for u in range(len(scores)) if scores[u] <= self.tau]
            if units:
                chosen[i] = units
        self.reset(chosen)


class ReDo(Dormancy):
    def sizes(self):
        return [self.by_unit(h).abs().mean(0) for h in self.net.hidden]


class GradientDormancy(Dormancy):
    def sizes(self):
        return [self.by_unit(x.grad).abs().mean(0) for x in self.net.before]


class ContinualBackprop(Reference):
    def __init__(self, *args, replacement_rate, maturity, decay=0.99, utility="contribution"):
        super().__init__(*args)
        self.rate, self.maturity, self.decay, self.kind = replacement_rate, maturity, decay, utility
        many = [layer.weight.shape[0] for layer in self.net.layers[:-1]]
        self.age = [torch.zeros(n) for n in many]
        self.utility = [torch.zeros(n) for n in many]
        self.mean = [torch.zeros(n) for n in many]
        self.owed = [0.0] * len(many)

    @torch.no_grad()
    def step(self):
        chosen = {}
        for i, h in enumerate(self.net.hidden):
            values, age = self.by_unit(h), self.age[i]
            weights = self.net.layers[i + 1].weight
            outgoing = torch.tensor([float(weights[self.columns(i, u)].abs().sum()) for u in range(len(age))])
            now = outgoing * (values.abs().mean(0) if self.kind == "contribution" else 1)
            age += 1
            self.utility[i] = self.decay * self.utility[i] + (1 - self.decay) * now
            self.mean[i] = self.decay * self.mean[i] + (1 - self.decay) * values.mean(0)
            mature = [u for u in range(len(age)) if age[u] > self.maturity]
            self.owed[i] += self.rate * len(mature)
            many, self.owed[i] = int(self.owed[i]), self.owed[i] - int(self.owed[i])
            corrected = self.utility[i] / (1 - self.decay**age)
            if many:
                chosen[i] = sorted(mature, key=lambda u: float(corrected[u]))[:many]
        for i, units in chosen.items():
            for u in units:
                mean = self.mean[i][u] / (1 - self.decay ** self.age[i][u])
                said = self.net.layers[i + 1].weight[self.columns(i, u)] * mean
                self.net.layers[i + 1].bias += said.flatten(1).sum(1)
                self.age[i][u] = self.utility[i][u] = self.mean[i][u] = 0
        self.reset(chosen)


class SelfNormalizedResets(Reference):
    def __init__(self, *args, percentile, window, longest):
        super().__init__(*args)
        self.percentile, self.window, self.longest, self.steps = percentile, window, longest, 0
        many = [layer.weight.shape[0] for layer in self.net.layers[:-1]]
        self.silent = [[0] * n for n in many]
        self.threshold = [[longest] * n for n in many]
        self.past = [[[] for _ in range(n)] for n in many]

    def step(self):
        self.steps += 1
        chosen = {}
        for i, h in enumerate(self.net.hidden):
            values = self.by_unit(h)
            for u in range(values.shape[1]):
                if (values[:, u] > 0).any():
                    self.past[i][u].append(self.silent[i][u])
                    self.silent[i][u] = 0
                else:
                    self.silent[i][u] += 1
                if self.silent[i][u] >= self.threshold[i][u]:
                    self.past[i][u].append(self.silent[i][u])
                    self.silent[i][u] = 0
                    chosen.setdefault(i, []).append(u)
                if self.steps % self.window == 0:
                    self.adapt(i, u)
        self.reset(chosen)

    def adapt(self, i, u):
        lengths = sorted(length for length in self.past[i][u] if length)
        self.past[i][u] = []
        if lengths:
            bound = lengths[math.ceil(self.percentile * len(lengths)) - 1]
            new = bound if bound < self.threshold[i][u] else 2 * self.threshold[i][u]
            self.threshold[i][u] = min(new, self.longest)
