"""B-SiLU and NeLU as ordinary activations. Their derivatives under every transform: test_transform_table.py."""

from __future__ import annotations

import inspect

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

import closed_forms
import undying

FORMS = {
    "BSiLU": (undying.BSiLU, undying.bsilu, closed_forms.bsilu),
    "NeLU": (undying.NeLU, undying.nelu, closed_forms.nelu),
}
every_activation = pytest.mark.parametrize(("module", "function", "truth"), FORMS.values(), ids=FORMS)
X = torch.linspace(-8, 8, 65, dtype=torch.float64)


def test_published_points() -> None:
    """What the paper's formulas give by hand."""
    assert undying.bsilu(torch.zeros(1)).item() == 0  # a / 2 - a / 2
    assert undying.bsilu(torch.tensor(-torch.inf)).item() == pytest.approx(-1.67 / 2)
    assert undying.nelu(torch.tensor([-1.0, 3.0])).tolist() == pytest.approx([0.05 / 2, 3.0])
    assert undying.nelu(torch.tensor(-torch.inf)).item() == pytest.approx(0.05)


@every_activation
@pytest.mark.parametrize("a", [None, 0.01, 0.5, 3.0])
def test_module_and_function(module: type[nn.Module], function: object, truth: object, a: float | None) -> None:
    arguments = {} if a is None else {"a": a}
    expected = torch.from_numpy(closed_forms.at(truth(**arguments).value, X.tolist()))
    for y in (module(**arguments)(X), function(X, **arguments)):
        torch.testing.assert_close(y, expected, rtol=1e-14, atol=1e-14)


@every_activation
@given(x=st.floats(width=32, allow_nan=False), upstream=st.floats(-8, 8, width=32))
def test_any_number(module: type[nn.Module], function: object, truth: object, x: float, upstream: float) -> None:
    leaf = torch.tensor([x], requires_grad=True)
    y = module()(leaf)
    y.backward(torch.tensor([upstream]))
    value, slope = (torch.from_numpy(closed_forms.at(f, [x])) for f in (truth().value, truth().slope))
    for actual, expected in ((y.detach(), value), (leaf.grad, upstream * slope)):
        torch.testing.assert_close(actual, expected.float(), rtol=2e-6, atol=2e-6)


@every_activation
def test_parameter_is_checked_and_shown(module: type[nn.Module], function: object, truth: object) -> None:
    assert repr(module(a=0.25)) == f"{module.__name__}(a=0.25)"
    assert module().a == module(inspect.unwrap(truth).__defaults__[0]).a
    with pytest.raises(ValueError, match="a must be a finite number, not nan"):
        function(X, a=float("nan"))


@every_activation
def test_is_no_relu(module: type[nn.Module], function: object, truth: object) -> None:
    assert not isinstance(module(), nn.ReLU)
