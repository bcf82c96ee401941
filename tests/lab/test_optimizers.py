"""Learning rates against their curves, optimizers against torch's."""

import math

import pytest
import torch
from torch import nn

from undying.lab.optimizers import build_optimizer, lr_factor
from undying.lab.recipe import Recipe


def factors(recipe, steps=10, epochs=8):
    return [lr_factor(recipe, step, steps, epochs) for step in range(steps * epochs)]


def test_cosine_is_torchs():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80)
    expected = []
    for _ in range(80):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert factors(Recipe(schedule="cosine")) == pytest.approx(expected, abs=1e-12)


def test_steps_constant_and_warm_up():
    assert factors(Recipe()) == [1.0] * 80
    assert factors(Recipe(schedule="step")) == [1.0] * 40 + [0.1] * 20 + [0.01] * 20
    warmed = factors(Recipe(schedule="cosine", warmup=1.5))
    assert warmed[:15] == pytest.approx([(i + 1) / 15 for i in range(15)])
    assert warmed[15:] == pytest.approx([(1 + math.cos(math.pi * i / 65)) / 2 for i in range(65)])


def test_momentum_and_weight_decay_reach_the_optimizer():
    parameters = [nn.Parameter(torch.zeros(1))]
    sgd = build_optimizer("sgd", parameters, 0.1, Recipe(momentum=0.5, weight_decay=0.2))
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"], sgd.defaults["lr"]) == (0.5, 0.2, 0.1)
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        assert build_optimizer(name, parameters, 0.1, Recipe()).defaults == kind(parameters, 0.1, fused=True).defaults
