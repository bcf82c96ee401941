"""Strength over time: what training that ends as ReLU goes through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import undying

X = torch.linspace(-5, 5, 101, dtype=torch.float64)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), undying.SUGAR(), nn.Sequential(nn.Linear(3, 3), undying.SUGAR("nelu")))


def run(steps: int, **settings: object) -> list[float]:
    """The strength before the first and after each step."""
    model = network()
    schedule = undying.StrengthSchedule(model, **settings)
    seen = [schedule.strength]
    for _ in range(steps):
        schedule.step()
        assert {model[1].strength, model[2][1].strength} == {schedule.strength}
        seen.append(schedule.strength)
    return seen


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"total_steps": 4}, [1, 0.75, 0.5, 0.25, 0, 0, 0]),
        ({"total_steps": 2, "start": 0.2, "end": 0.6}, [0.2, 0.4, 0.6, 0.6]),
        ({"total_steps": 4, "shape": "cosine"}, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0]),
        ({"total_steps": 4, "hold": 0.5}, [1, 1, 1, 0.5, 0, 0]),
        ({"total_steps": 4, "hold": 0.5, "shape": "cosine", "end": 0.5}, [1, 1, 1, 0.75, 0.5]),
        ({"total_steps": 1}, [1, 0]),
    ],
)
def test_schedule(settings: dict[str, object], expected: list[float]) -> None:
    assert run(len(expected) - 1, **settings) == pytest.approx(expected)


def test_schedule_sets_the_start_at_once() -> None:
    model = network()
    undying.StrengthSchedule(model, 10, start=0.5)
    assert model[1].strength == model[2][1].strength == 0.5


def test_schedule_ends_exactly_at_relu() -> None:
    model = network().double()
    schedule = undying.StrengthSchedule(model, 7, hold=0.3, shape="cosine")
    for _ in range(7):
        schedule.step()
    x = X.clone().requires_grad_()
    model[1](x).sum().backward()
    assert torch.equal(x.grad, (X > 0).double())


def test_schedule_continues_from_a_checkpoint(tmp_path: Path) -> None:
    first = undying.StrengthSchedule(network(), 10)
    for _ in range(3):
        first.step()
    torch.save(first.state_dict(), tmp_path / "schedule.pt")

    model = network()
    second = undying.StrengthSchedule(model, 10)
    second.load_state_dict(torch.load(tmp_path / "schedule.pt", weights_only=True))
    assert model[1].strength == second.strength == first.strength == pytest.approx(0.7)
    first.step()
    second.step()
    assert second.strength == first.strength


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, "total_steps must be a whole number of at least 1, not 0"),
        ({"total_steps": 2.5}, "total_steps must be a whole number of at least 1, not 2.5"),
        ({"total_steps": 5, "start": 1.1}, "start must be between 0 and 1, not 1.1"),
        ({"total_steps": 5, "end": -0.1}, "end must be between 0 and 1, not -0.1"),
        ({"total_steps": 5, "hold": 1.0}, "hold must be below 1"),
        ({"total_steps": 5, "hold": 2.0}, "hold must be between 0 and 1, not 2.0"),
        ({"total_steps": 5, "shape": "step"}, "shape must be 'linear' or 'cosine', not 'step'"),
    ],
)
def test_schedule_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        undying.StrengthSchedule(network(), **settings)


def test_schedule_refuses_a_model_without_either() -> None:
    with pytest.raises(ValueError, match=r"Sequential holds no undying.SUGAR or BAReLU module; convert it first"):
        undying.StrengthSchedule(nn.Sequential(nn.ReLU()), 5)


def test_barelu_goes_along_and_ends_as_relu_exactly() -> None:
    model = nn.Sequential(undying.SUGAR(), undying.BAReLU(0.2, 1e-29), undying.BAReLU(0.01, eps=0.5))
    schedule = undying.StrengthSchedule(model, 4, shape="cosine")
    seen = []
    for _ in range(4):
        seen.append((model[0].strength, model[1].alpha / 0.2, model[2].alpha / 0.01, model[2].eps / 0.5))
        schedule.step()
    for strengths in seen:
        assert strengths == pytest.approx([strengths[0]] * 4)
    assert model[1].eps == 0, "and not below the smallest that is allowed on the way"
    assert str(model[1]) == str(model[2]) == "BAReLU(alpha=0.0)"


def test_a_network_stored_on_the_way_goes_on_from_the_slope_it_started_with() -> None:
    model = nn.Sequential(undying.BAReLU(0.2))
    first = undying.StrengthSchedule(model, 4)
    first.step()
    state = first.state_dict()
    second = undying.StrengthSchedule(model, 4)  # the network has 0.15 now
    second.load_state_dict(state)
    second.step()
    assert model[0].alpha == pytest.approx(0.1)
    with pytest.raises(ValueError, match="of 1 BAReLU modules; this model holds 2"):
        undying.StrengthSchedule(nn.Sequential(*(undying.BAReLU() for _ in range(2))), 4).load_state_dict(state)
