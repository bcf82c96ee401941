"""What is said of each activation, against its outputs and derivatives; saturated units by it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying.activations.known import (
    FACTS,
    OPERATORS,
    SPELLINGS,
    TYPE_OF,
    ends,
    is_activation,
    is_composed,
    is_flat_below_zero,
    is_inplace,
    is_rectifier,
    targets,
    turning_point,
)

X = torch.linspace(-12, 12, 2401, dtype=torch.float64)
FORMS = [(kind, form) for kind, facts in FACTS.items() for form in (*facts.functions, *facts.inplace)]
SHOWN = {"ids": lambda value: getattr(value, "__name__", None)}


def slope(function):
    x = X.clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


@pytest.mark.parametrize(("kind", "form"), FORMS, **SHOWN)
def test_a_functional_form_computes_the_same(kind, form):
    x = X.clone()
    y = form(x)
    torch.testing.assert_close(y, kind()(X), rtol=0, atol=0)
    overwrites = form in FACTS[kind].inplace
    assert (y.data_ptr() == x.data_ptr()) is overwrites
    assert torch.equal(x, y if overwrites else X)
    assert is_inplace(form, (x,), {}) is overwrites
    assert TYPE_OF[form] is kind


def test_a_form_that_takes_inplace_is_in_place_by_it():
    assert is_inplace(F.relu, (X, True), {})
    assert is_inplace(F.leaky_relu, (X, 0.2), {"inplace": True})
    assert not is_inplace(F.leaky_relu, (X, 1), {"inplace": False})


@pytest.mark.parametrize("kind", FACTS, **SHOWN)
def test_flat_below_zero(kind):
    assert is_flat_below_zero(kind) is bool((slope(kind().double().eval())[X <= 0] == 0).all())


def test_a_subclass_is_flat_where_what_it_inherits_from_is():
    assert is_flat_below_zero(type("Mine", (nn.ReLU,), {}))
    assert not is_flat_below_zero(type("Mine", (nn.Hardtanh,), {}))
    assert not is_flat_below_zero(nn.Linear)


@pytest.mark.parametrize("kind", FACTS, **SHOWN)
def test_rectifier(kind):
    assert is_rectifier(kind) is torch.equal(kind().double().eval()(X), X.clamp(min=0))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [*((kind, {}) for kind in FACTS if kind.__module__.startswith("torch.")), (nn.GELU, {"approximate": "tanh"})],
    **SHOWN,
)
def test_turning_point(kind, arguments):
    """Where the derivative changes its sign, which that of a monotone one never does."""
    act, at = kind(**arguments).double().eval(), turning_point(kind, **arguments)
    derivative = slope(act)
    if at is None:
        assert (derivative >= 0).all()
    else:
        assert (derivative[at - 1e-9 > X] <= 0).all()
        assert (derivative[at + 1e-9 < X] >= 0).all()
        around = torch.tensor([at - 1e-6, at + 1e-6], dtype=torch.float64).requires_grad_()
        act(around).sum().backward()
        assert around.grad[0] < 0 < around.grad[1]


@pytest.mark.parametrize("kind", FACTS, **SHOWN)
def test_ends_are_given_for_what_is_bounded(kind):
    y = kind().double().eval()(torch.tensor([-1e4, 1e4], dtype=torch.float64))
    bounds = ends(kind, kind(), (), {})
    bounded = (y.abs() < 100).tolist()
    # What is bounded below alone, as ReLU, has no range whose ends could be told apart.
    assert (bounds is not None) is bounded[1]
    if bounds is not None:
        assert y[1].isfinite()


def test_spellings_operators_and_targets():
    assert {name: make() for name, make in SPELLINGS.items()}.keys() == {
        *("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "tanh"),
        *("sugar", "barelu", "bsilu", "nelu"),
    }
    assert OPERATORS["relu"] == "ReLU"
    assert all(OPERATORS[form.__name__.strip("_")] == kind.__name__ for kind, form in FORMS)
    assert targets()["ReLU6"] is nn.ReLU6
    assert not {"PReLU", "RReLU", "SUGAR", "BAReLU"} & targets().keys()


def test_what_counts_as_an_activation():
    assert is_activation(nn.ReLU())
    assert is_activation(undying.SUGAR())
    assert is_activation(type("Mine", (nn.GELU,), {})())
    assert not is_activation(nn.Linear(2, 2))
    assert not is_activation(None)
    assert is_composed(undying.BSiLU())
    assert not is_composed(nn.ReLU())
    assert not is_composed(None)


LENGTH = {nn.Tanh: 2.0, nn.Sigmoid: 1.0}


@pytest.mark.parametrize("kind", LENGTH)
def test_an_end_is_within_one_hundredth_of_the_range(kind):
    low, high = ends(kind, kind(), (), {})
    out = kind()(torch.tensor([low, high], dtype=torch.float64))
    bottom, top = (0.0, 1.0) if kind is nn.Sigmoid else (-1.0, 1.0)
    torch.testing.assert_close(out, torch.tensor([bottom, top]).double() + LENGTH[kind] * torch.tensor([0.01, -0.01]))


@pytest.mark.parametrize(
    "act",
    [nn.ReLU6(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardtanh(-0.5, 4.0), nn.Hardtanh(0.0, 1.0)],
)
def test_an_end_of_a_piecewise_linear_one_is_where_its_derivative_is_0(act):
    low, high = ends(type(act), act, (), {})
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64).requires_grad_()
    act(x).sum().backward()
    flat = x.grad == 0
    below = x <= low if low > -torch.inf else x <= 0
    assert torch.equal(flat, below | (x >= high))


@pytest.mark.parametrize(
    ("call", "kind", "expected"),
    [
        (F.hardtanh, nn.Hardtanh, (-1.0, 1.0)),
        (lambda x: F.hardtanh(x, -2.0, 0.5), nn.Hardtanh, (-2.0, 0.5)),
        (lambda x: F.hardtanh(x, max_val=3.0, inplace=True), nn.Hardtanh, (-1.0, 3.0)),
        (F.relu6, nn.ReLU6, (-torch.inf, 6.0)),
        (torch.tanh, nn.Tanh, (-2.29756, 2.29756)),
        (torch.Tensor.sigmoid, nn.Sigmoid, (-4.59512, 4.59512)),
        (F.hardsigmoid, nn.Hardsigmoid, (-3.0, 3.0)),
    ],
)
def test_functions_with_their_arguments(call, kind, expected):
    class Call(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 5)

        def forward(self, x):
            return call(self.lin(x))

    net, x = Call(), torch.randn(200, 4) * 3
    with torch.no_grad():
        net.lin.bias[0], net.lin.bias[1] = 1e3, -1e3
    pre = net.lin(x).detach()
    (site,) = undying.census(net, x).sites
    low, high = expected
    assert site.kind == kind.__name__
    assert site.low.tolist() == (pre <= low).sum(0).tolist()
    assert site.high.tolist() == (pre >= high).sum(0).tolist()
    assert site.saturated.tolist() == ((pre <= low) | (pre >= high)).all(0).tolist()
    assert site.saturated[0]
    if kind is nn.ReLU6:
        assert site.silent.tolist() == (pre <= 0).all(0).tolist()
        assert not site.saturated[1]
    else:  # x <= 0 says nothing of a unit that is flat on both sides
        assert site.silent is None
        assert site.saturated[1]


@pytest.mark.parametrize("act", [nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(), nn.Hardsigmoid(), nn.ReLU6()])
def test_dead_is_saturated_without_gradient(act):
    """In float32 tanh(-1e3) has gradient 0, tanh(3) has not; both are within one hundredth of the end."""
    net = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.mul_(0.01)
        net[0].bias.copy_(torch.tensor([1e3, -1e3, 5.5, 0.1]))
    x, y = torch.randn(30, 3), torch.randn(30, 2)
    unknown = undying.census(net, [(x, y)])
    site = undying.census(net, [(x, y)], gradients=True)["1"]
    smooth = isinstance(act, nn.Tanh | nn.Sigmoid)
    if isinstance(act, nn.ReLU6):
        assert site.silent.tolist() == site.dead.tolist() == [False, True, False, False]
        assert site.saturated.tolist() == [True, False, False, False]
    else:
        assert unknown["1"].dead is None
        assert site.saturated.tolist() == [True, True, True, False]
        assert site.dead.tolist() == [True, True, not smooth, False]
        assert unknown.silent_fraction is None
    assert unknown.saturated_fraction == site.saturated.double().mean()
