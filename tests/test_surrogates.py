"""The surrogates: values and derivatives against their closed forms, the registry, custom callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass

import mpmath
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import closed_forms
import undying
from undying import surrogates
from undying.lab.activations import build_activation
from undying.ops import autograd, native

# torch itself warns, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)")

#: name -> (parameters, closed form): every default, and other parameters where there are any.
VARIANTS = {
    **{name: (name, {}, closed_forms.SURROGATES[name]) for name in undying.SURROGATES},
    "bsilu-1": ("bsilu", {"a": 1.0}, closed_forms.bsilu(1.0)),
    "nelu-0.01": ("nelu", {"a": 0.01}, closed_forms.nelu(0.01)),
    "nelu-0.1": ("nelu", {"a": 0.1}, closed_forms.nelu(0.1)),
    "leaky_relu-0.2": ("leaky_relu", {"slope": 0.2}, closed_forms.leaky_relu(0.2)),
    "elu-0.5": ("elu", {"alpha": 0.5}, closed_forms.elu(0.5)),
    "helu-0.25": ("helu", {"alpha": 0.25}, closed_forms.helu(0.25)),  # X has -0.25, where the derivative jumps
    "frigorelu-0.3": ("frigorelu", {"alpha": 0.3}, closed_forms.frigorelu(0.3)),
}
every_variant = pytest.mark.parametrize(("name", "parameters", "truth"), VARIANTS.values(), ids=VARIANTS)

X = torch.cat([torch.linspace(-60, 60, 481, dtype=torch.float64), torch.tensor([-700.0, -1e-300, -0.0, 1e-300, 700.0])])


def near(actual: Tensor, function: closed_forms.Function) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(closed_forms.at(function, X.tolist())), rtol=1e-14, atol=1e-14)


def test_every_registered_surrogate_has_a_closed_form() -> None:
    assert set(undying.SURROGATES) == set(closed_forms.SURROGATES)


@every_variant
def test_value_and_derivative(name: str, parameters: dict[str, float], truth: closed_forms.Form) -> None:
    smooth = undying.surrogate(name, **parameters)
    near(smooth.value(X), truth.value)
    near(smooth.derivative(X), truth.slope)


@every_variant
def test_derivative_is_that_of_value(name: str, parameters: dict[str, float], truth: closed_forms.Form) -> None:
    smooth, x = undying.surrogate(name, **parameters), X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(smooth.value(x).sum(), x)
    near(slope, truth.slope)
    torch.testing.assert_close(smooth.derivative(X), slope, rtol=1e-14, atol=1e-14)


@every_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shape_and_dtype_are_kept(
    name: str, parameters: dict[str, float], truth: closed_forms.Form, dtype: torch.dtype
) -> None:
    smooth = undying.surrogate(name, **parameters)
    x = torch.ones(2, 0, 3, dtype=dtype), torch.tensor(-1.0, dtype=dtype)
    for part in x:
        for y in (smooth.value(part), smooth.derivative(part)):
            assert (y.shape, y.dtype) == (part.shape, dtype)
    assert smooth.value(x[1]).item() == pytest.approx(closed_forms.at(truth.value, [-1.0])[0], rel=1e-6)


@pytest.mark.parametrize("name", undying.SURROGATES)
def test_outside_its_reach_the_derivative_is_relus(name: str) -> None:
    """That is what lets SUGAR clamp x there."""
    low, high = undying.surrogate(name).reach
    slope = closed_forms.SURROGATES[name].slope
    assert closed_forms.at(slope, [low] * (low > -torch.inf)) == pytest.approx(0.0, abs=1e-17)
    assert closed_forms.at(slope, [high] * (high < torch.inf)) == pytest.approx(1.0, abs=1e-17)


@pytest.mark.parametrize(
    ("spec", "parameters", "shown"),
    [
        ("bsilu", {}, "bsilu(a=1.67)"),
        ("nelu", {"a": 0.01}, "nelu(a=0.01)"),
        ("leaky_relu", {}, "leaky_relu(slope=0.01)"),
        ("elu", {"alpha": 0.5}, "elu(alpha=0.5)"),
        ("selu", {}, "selu"),
        ("gelu_tanh", {}, "gelu_tanh"),
        ("helu", {}, "helu(alpha=0.05)"),
        ("frigorelu", {}, "frigorelu(alpha=0.1)"),
    ],
)
def test_str(spec: str, parameters: dict[str, float], shown: str) -> None:
    assert str(undying.surrogate(spec, **parameters)) == shown


@pytest.mark.parametrize("name", undying.SURROGATES)
def test_is_documented_frozen_and_comparable(name: str) -> None:
    smooth = undying.surrogate(name)
    assert smooth.name == name
    assert smooth.formula
    assert smooth.source
    assert smooth == undying.surrogate(name)
    assert undying.surrogate(smooth) is smooth
    assert hash(smooth) == hash(undying.surrogate(name))
    with pytest.raises(FrozenInstanceError):
        smooth.a = 2.0


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'swish'") as error:
        undying.surrogate("swish")
    assert all(name in str(error.value) for name in undying.SURROGATES)


@pytest.mark.parametrize(
    ("spec", "parameters", "error", "message"),
    [
        ("nelu", {"b": 1.0}, TypeError, "'nelu' has no parameter 'b'; it has: a"),
        ("gelu", {"a": 1.0}, TypeError, "'gelu' has no parameter 'a'; it has: none"),
        (F.softplus, {"beta": 2.0}, TypeError, r"parameters \['beta'\] go with a surrogate's name"),
        ("bsilu", {"a": float("inf")}, ValueError, "bsilu: a must be a finite number, not inf"),
        ("elu", {"alpha": "1"}, ValueError, "elu: alpha must be a finite number, not '1'"),
        ("leaky_relu", {"slope": float("nan")}, ValueError, "leaky_relu: slope must be a finite number, not nan"),
        (None, {}, TypeError, "surrogate must be a name .*, not None"),
        (torch.nn.GELU, {}, TypeError, "surrogate must be a name .*, a Surrogate or a callable, not <class"),
    ],
)
def test_wrong_specification(spec: object, parameters: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        undying.surrogate(spec, **parameters)


# ---------------------------------------------------------------------------------------------------------------------
# Scaled to a mean derivative of 1 over the positive side


@every_variant
def test_unit_scaled_is_the_surrogate_over_the_mean_of_its_derivative(
    name: str, parameters: dict[str, float], truth: closed_forms.Form
) -> None:
    with mpmath.workdps(30):
        mean = 2 * mpmath.quad(lambda x: truth.slope(x) * mpmath.npdf(x), [0, 1, 2, 4, 8, 16])
    scaled, x = undying.unit_scaled(undying.surrogate(name, **parameters)), X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(scaled.value(x).sum(), x)
    # Its own closed form and autograd's way through its value both are the truth over the mean.
    for actual in (scaled.derivative(X), slope):
        near(actual * float(mean), truth.slope)
    near(scaled.value(X) * float(mean), truth.value)


def test_the_mean_is_that_of_the_closed_forms() -> None:
    """ReLU's own 1 on the right gives 1; SELU's is its scale; GELU's is 3/4 + 1/(2 pi)."""
    for name, mean in (("leaky_relu", 1), ("nelu", 1), ("elu", 1), ("gelu", 0.75 + 0.5 / torch.pi)):
        assert undying.unit_scaled(name).factor == pytest.approx(1 / mean, rel=1e-14)
    assert undying.unit_scaled("selu").factor == pytest.approx(1 / 1.0507009873554804934, rel=1e-14)


@pytest.mark.parametrize("name", ["bsilu", "silu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_sugar_with_a_scaled_surrogate_is_relu_forward_and_finite(name: str, dtype: torch.dtype) -> None:
    scaled = undying.unit_scaled(name)
    inf, most = torch.inf, torch.finfo(dtype).max
    x = torch.tensor([-inf, -most, -200, -3, -0.0, 0, 3, 200, most / 8, inf], dtype=dtype, requires_grad=True)
    y = undying.sugar(x, scaled)
    assert torch.equal(y, torch.relu(x))
    y.sum().backward()
    assert x.grad.isfinite().all()
    within = x.detach()[3:9].double()
    torch.testing.assert_close(x.grad[3:9].double(), scaled.derivative(within), rtol=2e-3, atol=1e-6)
    assert x.grad[:3].abs().max() < 1e-6


@pytest.mark.parametrize("region", ["all", "negative"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_scaled_surrogate_is_the_same_on_every_path(region: str, dtype: torch.dtype) -> None:
    layer = undying.SUGAR(undying.unit_scaled("bsilu"), region=region)
    call = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with undying.ops.using("composite"):
        ways = [torch.autograd.grad(layer(x := _leaf(dtype)).sum(), x)[0]]
    ways.append(torch.autograd.grad(layer(x := _leaf(dtype)).sum(), x)[0])
    ways.append(torch.autograd.grad(call(x := _leaf(dtype)).sum(), x)[0])
    gradients = [way.double() for way in ways]
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def _leaf(dtype: torch.dtype) -> Tensor:
    return torch.cat([torch.linspace(-130, 130, 521), torch.tensor([-torch.inf, torch.inf])]).to(dtype).requires_grad_()


def test_a_surrogate_without_a_positive_mean_is_refused() -> None:
    with pytest.raises(ValueError, match="mean derivative of -1 "):
        undying.unit_scaled(torch.neg)


# ---------------------------------------------------------------------------------------------------------------------
# One's own


class Square(undying.Surrogate):
    def value(self, x: Tensor) -> Tensor:
        return x * x

    def derivative(self, x: Tensor) -> Tensor:
        return 2 * x


def test_registered_class_is_known_everywhere() -> None:
    @undying.register_surrogate("square")
    @dataclass(frozen=True)
    class Scaled(undying.Surrogate):
        scale: float = 0.5

        def value(self, x: Tensor) -> Tensor:
            return self.scale * x * x

        def derivative(self, x: Tensor) -> Tensor:
            return 2 * self.scale * x

    assert undying.SURROGATES["square"] is Scaled
    assert str(undying.surrogate("square", scale=2.0)) == "square(scale=2.0)"
    x = torch.tensor([-3.0, 2.0], requires_grad=True)
    undying.SUGAR("square")(x).sum().backward()
    assert x.grad.tolist() == [-3.0, 2.0]
    assert repr(build_activation("sugar:square:scale=2")) == "SUGAR(square(scale=2.0))"
    assert repr(build_activation("sugar:square:region=negative")) == "SUGAR(square(scale=0.5), region='negative')"


@pytest.mark.parametrize("name", ["late", "barelu"])
def test_what_is_registered_later_is_not_built_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel is meant for it, whatever operator has its name."""
    undying.register_surrogate(name)(dataclass(frozen=True)(type("Late", (Square,), {})))
    late = undying.surrogate(name)
    assert not autograd.is_built_in(late)
    assert not autograd.is_built_in(undying.unit_scaled(late))
    assert autograd.kernel(late, "all", native) is None
    entered: list[str] = []
    monkeypatch.setattr(torch.library, "register_autograd", lambda name, *_, **__: entered.append(name))
    autograd.register_derivatives("there", lambda operator: operator)
    names = [*(cls.name + "_backward" for cls in surrogates.BUILT_IN), "barelu", "barelu_backward"]
    assert sorted(entered) == sorted(f"there::{operator}" for operator in names)
    for path in ("auto", "composite"):
        x = torch.tensor([-3.0, 2.0], requires_grad=True)
        with undying.ops.using(path):
            undying.sugar(x, name).sum().backward()
        assert x.grad.tolist() == [-6.0, 4.0]


@pytest.mark.parametrize(
    ("name", "cls", "error", "message"),
    [
        ("gelu", Square, ValueError, "'gelu' is already registered by GELU"),
        ("a:b", Square, ValueError, "name must be one word, not 'a:b'"),
        ("", Square, ValueError, "name must be one word, not ''"),
        ("mine", torch.nn.GELU, TypeError, "GELU'> is no subclass of undying.Surrogate"),
        ("mine", F.relu, TypeError, "relu .* is no subclass of undying.Surrogate"),
        (
            "mine",
            type("Bare", (Square,), {}),
            TypeError,
            r"Bare is no dataclass; put @dataclass\(frozen=True\) below it",
        ),
        ("mine", surrogates.GELU, ValueError, "GELU is already registered as 'gelu'"),
    ],
)
def test_what_cannot_be_registered(name: str, cls: type, error: type[Exception], message: str) -> None:
    before = dict(undying.SURROGATES)
    with pytest.raises(error, match=message):
        undying.register_surrogate(name)(cls)
    assert before == undying.SURROGATES
    assert surrogates.GELU.name == "gelu"


def test_custom_callable() -> None:
    smooth = undying.surrogate(F.softplus)
    x = torch.linspace(-15, 15, 61, dtype=torch.float64)
    truth = closed_forms.softplus()
    for actual, function in ((smooth.value(x), truth.value), (smooth.derivative(x), truth.slope)):
        torch.testing.assert_close(actual, torch.from_numpy(closed_forms.at(function, x.tolist())), rtol=1e-13, atol=0)
    assert "softplus" in str(smooth)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (torch.sum, r"shape \(\)"),
        (lambda x: x[:-1], r"shape \(2,\)"),
        (lambda x: x.tolist(), "list"),
        (lambda x: None, "NoneType"),
    ],
)
@pytest.mark.parametrize("use", [undying.sugar, lambda x, f: undying.surrogate(f).derivative(x)])
def test_custom_callable_must_keep_the_shape(
    use: Callable[[Tensor, object], Tensor], function: Callable[[Tensor], object], got: str
) -> None:
    with pytest.raises(ValueError, match=rf"must return a tensor of its input's shape \(3,\), not {got}"):
        use(torch.zeros(3), function)
