"""SUGAR: forward and backward for any number, regions, strength and its schedule. Transforms: test_transform_table.py."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import closed_forms
import undying

AS_INTEGER = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
names = st.sampled_from(sorted(undying.SURROGATES))
regions = st.sampled_from(["all", "negative"])
strengths = st.floats(0, 1)


def slope(x: Tensor, *arguments: object, upstream: Tensor | None = None, **settings: object) -> Tensor:
    x = x.detach().clone().requires_grad_()
    undying.sugar(x, *arguments, **settings).backward(torch.ones_like(x) if upstream is None else upstream)
    return x.grad


def truth(function: closed_forms.Function, x: Tensor) -> Tensor:
    return torch.from_numpy(closed_forms.at(function, x.tolist()))


# ---------------------------------------------------------------------------------------------------------------------
# Any number


@given(
    numbers=st.lists(st.floats(), max_size=40),
    dtype=st.sampled_from(list(AS_INTEGER)),
    name=names,
    region=regions,
    strength=strengths,
    requires_grad=st.booleans(),
)
def test_forward_is_relu(
    numbers: list[float], dtype: torch.dtype, name: str, region: str, strength: float, requires_grad: bool
) -> None:
    x = torch.tensor(numbers, dtype=dtype)
    y = undying.sugar(x.clone().requires_grad_(requires_grad), name, region=region, strength=strength).detach()
    expected = torch.relu(x)
    assert y.dtype == dtype
    assert torch.equal(y.isnan(), x.isnan())
    # All the bits of every number; NaN has many, of which torch.relu itself does not always keep the same.
    bits = [t[~x.isnan()].view(AS_INTEGER[dtype]) for t in (y, expected)]
    assert torch.equal(*bits)


@given(
    pairs=st.lists(
        st.tuples(st.floats(-1e250, 1e250) | st.floats(-50, 50), st.floats(-1e3, 1e3)), min_size=1, max_size=20
    ),
    name=names,
    region=regions,
    strength=strengths,
)
def test_backward_is_the_closed_form(pairs: list[tuple[float, float]], name: str, region: str, strength: float) -> None:
    x, upstream = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    form = closed_forms.sugar(closed_forms.SURROGATES[name], region, strength)
    actual = slope(x, name, upstream=upstream, region=region, strength=strength)
    assert ((actual - upstream * truth(form.slope, x)).abs() <= 1e-14 * upstream.abs().clamp(min=1)).all()


# ---------------------------------------------------------------------------------------------------------------------
# Settings

X = torch.tensor([-40.0, -2.0, -0.3, -0.0, 0.0, 0.3, 2.0, 40.0], dtype=torch.float64)


def test_default_is_the_paper() -> None:
    torch.testing.assert_close(slope(X), truth(closed_forms.bsilu().slope, X), rtol=1e-14, atol=1e-14)
    module = undying.SUGAR()
    assert (str(module.surrogate), module.region, module.strength) == ("bsilu(a=1.67)", "all", 1.0)


@pytest.mark.parametrize("name", undying.SURROGATES)
def test_negative_region_keeps_one_above_zero(name: str) -> None:
    actual = slope(X, name, region="negative")
    assert (actual[X > 0] == 1).all()
    assert torch.equal(actual[X <= 0], slope(X, name)[X <= 0])


def test_strength_0_is_relu_and_1_is_the_surrogate() -> None:
    assert torch.equal(slope(X, strength=0.0), (X > 0).double())
    assert torch.equal(slope(X, strength=1), slope(X))


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("region", ["all", "negative"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_strength_may_be_a_tensor(strength: float, region: str, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    expected = slope(x, region=region, strength=strength)
    for tensor in (torch.tensor(strength), torch.tensor(strength, dtype=torch.float64)):
        actual = slope(x, region=region, strength=tensor)
        assert actual.dtype == dtype
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_surrogate_may_be_given_as_object_or_callable() -> None:
    assert torch.equal(slope(X, undying.surrogate("nelu", a=0.1)), slope(X, undying.SURROGATES["nelu"](0.1)))
    torch.testing.assert_close(slope(X, F.silu), slope(X, "silu"), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(slope(X, lambda x: x * torch.sigmoid(x)), slope(X, "silu"), rtol=1e-14, atol=1e-14)


def test_inplace_leaves_x_alone() -> None:
    leaf = X.clone().requires_grad_()
    for x in (X.clone(), leaf * 1):
        y = undying.SUGAR(inplace=True)(x)
        assert torch.equal(x, X)
        assert torch.equal(y, torch.relu(X))
    assert torch.equal(torch.autograd.grad(y.sum(), leaf)[0], slope(X, "bsilu"))
    assert repr(undying.SUGAR(inplace=True)) == "SUGAR(bsilu(a=1.67), inplace=True)"


def test_is_no_subclass_of_relu() -> None:
    """Otherwise fusion and quantisation would take it for one, and drop the gradient."""
    assert not isinstance(undying.SUGAR(), nn.ReLU)


def test_revives_a_unit_that_relu_leaves_dead() -> None:
    def trained(activation: nn.Module) -> float:
        unit = nn.Linear(1, 1)
        with torch.no_grad():
            unit.weight.fill_(1.0)
            unit.bias.fill_(-1.0)  # silent on the data below
        for _ in range(200):
            loss = (activation(unit(torch.tensor([[0.2], [0.7]]))) - 1).pow(2).mean()
            unit.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in unit.parameters():
                    parameter -= 0.1 * parameter.grad
        return loss.item()

    assert trained(nn.ReLU()) == 1.0
    assert trained(undying.SUGAR()) < 0.1


@pytest.mark.parametrize("kind", [float, torch.tensor], ids=["number", "tensor"])
def test_changing_the_strength_compiles_at_most_twice(kind: type) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    module = undying.SUGAR(strength=kind(1.0))
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for step in range(10):
        module.strength = kind(1 - step / 10)
        x = X.clone().requires_grad_()
        compiled(x).sum().backward()
        torch.testing.assert_close(x.grad, slope(X, strength=1 - step / 10), rtol=1e-6, atol=1e-6)
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
