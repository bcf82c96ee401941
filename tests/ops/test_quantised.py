"""SUGAR that keeps 8 or 4 bits an element: bounds, rounding, memory, and where it is exact instead."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import closed_forms
import undying
from activations import test_transform_table as table
from kernels import instructions_here, kernels
from undying.ops import native, quantised

# torch itself warns, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)")

PATHS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "composite": lambda: undying.ops.using("composite"),
    **{name: (lambda name=name: kernels(name)) for name in instructions_here()},
}
BITS = {"8bit": 8, "4bit": 4}
every_save = pytest.mark.parametrize("save", BITS)
every_rounding = pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)


#: For what no kernel has a part in, or every kernel the same.
one_path = pytest.mark.parametrize("path", [next(reversed(PATHS))], indirect=True)


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    with PATHS[request.param]():
        yield request.param


def grid(name: str = "bsilu", save: str = "8bit", region: str = "all") -> quantised.Grid:
    return quantised.grid_of(undying.surrogate(name), region, BITS[save])


def slope_of(x: Tensor, upstream: Tensor | None = None, **settings: object) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = undying.SUGAR(**settings)(x * 1)
    return torch.autograd.grad(y, x, torch.ones_like(y) if upstream is None else upstream)[0]


X = torch.cat(
    [torch.linspace(-12, 12, 1501), torch.tensor([-torch.inf, -1e30, -200.0, -0.0, 0.0, 200.0, 1e30, torch.inf])]
)


@one_path
@pytest.mark.parametrize(("save", "scale"), [("8bit", 193), ("4bit", 10)])
def test_grid_of_bsilu(save: str, scale: int) -> None:
    """The derivative lies in [-0.0237, 1.2904]."""
    assert grid(save=save).scale == scale


@every_save
@every_rounding
@pytest.mark.parametrize("name", undying.SURROGATES)
@pytest.mark.parametrize("region", ["all", "negative"])
def test_error_bound(save: str, rounding: str, name: str, region: str) -> None:
    form = closed_forms.sugar(closed_forms.SURROGATES[name], region)
    truth = torch.from_numpy(closed_forms.at(form.slope, X.tolist()))
    truth = torch.where(X.abs() > 1e35, (X > 0).double(), truth)  # ReLU's, beyond a quarter of the largest number
    slope = slope_of(X, surrogate=name, region=region, save=save, rounding=rounding).double()
    bound = (0.5 if rounding == "nearest" else 1.0) / grid(name, save, region).scale
    assert (slope - truth).abs().max() <= bound + 1e-6


@every_save
@every_rounding
def test_0_and_1_are_exact(save: str, rounding: str) -> None:
    x = torch.tensor([-1e3, 1e3, -torch.inf, torch.inf]).repeat(50)
    assert slope_of(x, save=save, rounding=rounding).tolist() == [0.0, 1.0, 0.0, 1.0] * 50


@every_save
@pytest.mark.parametrize("point", [-3.0, -1.0, 0.3, 2.4])
def test_stochastic_rounding_is_unbiased(save: str, point: float) -> None:
    count, scale = 100_000, grid(save=save).scale
    truth = closed_forms.at(closed_forms.bsilu().slope, [point])[0]
    slope = slope_of(torch.full((count,), point), save=save, rounding="stochastic").double()
    share = truth * scale % 1
    assert len(slope.unique()) == 2
    assert abs(slope.mean().item() - truth) < 5 * (share * (1 - share) / count) ** 0.5 / scale + 1e-6


@every_save
def test_stochastic_rounding_is_seeded_by_torch(save: str) -> None:
    x = torch.linspace(-3, 3, 10_000)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(slope_of(x, save=save, rounding="stochastic"))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    # Neighbours are rounded independently: equal numbers, about a quarter of the pairs both up.
    same = slope_of(torch.full((40_000,), 0.3), save=save, rounding="stochastic")
    up = (same == same.max()).double()
    assert (up[:-1] * up[1:]).mean().item() == pytest.approx(up.mean().item() ** 2, abs=0.02)


@every_dtype
@every_save
@pytest.mark.parametrize("layout", table.LAYOUTS)
@pytest.mark.parametrize("inplace", [False, True], ids=["new", "inplace"])
def test_dtype_and_layout(dtype: torch.dtype, save: str, layout: str, inplace: bool) -> None:
    x = (3 * torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).to(dtype)
    leaf = table.LAYOUTS[layout](x).requires_grad_()
    pre = leaf.clone() if layout == "expanded" else leaf * 1
    y = undying.SUGAR(save=save, inplace=inplace)(pre)
    table.assert_same_bits(y, torch.relu(leaf))
    assert (y.data_ptr() == pre.data_ptr()) == (inplace or not y.numel())
    weights = table._weights(leaf)
    slope = torch.autograd.grad(y, leaf, weights)[0] / weights
    truth = table.truth_at(closed_forms.bsilu().slope, leaf.detach())
    bound = 0.5 / grid(save=save).scale + 2 * torch.finfo(dtype).eps
    assert ((slope.double() - truth).abs() <= bound).all()


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 31, 33, 70_001])
@every_save
def test_any_size_and_place(size: int, save: str) -> None:
    storage = torch.linspace(-4, 4, size + 3)
    exact = slope_of(storage[3:])
    assert ((slope_of(storage[3:], save=save) - exact).abs() <= 0.5 / grid(save=save).scale + 1e-6).all()


@every_save
def test_gradient_of_another_memory_format(save: str) -> None:
    x, g = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = slope_of(x, g, save=save)
    for a in (x, x.to(memory_format=torch.channels_last)):
        for b in (g, g.to(memory_format=torch.channels_last)):
            assert torch.equal(slope_of(a, b, save=save), expected)


@one_path
@pytest.mark.parametrize(("save", "share"), [("8bit", 1), ("4bit", 0.5)])
def test_keeps_that_many_bytes(save: str, share: float) -> None:
    kept: list[Tensor] = []
    x = torch.randn(1000).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        undying.sugar(x, save=save)
    assert sum(t.numel() * t.element_size() for t in kept) == 1000 * share


@every_save
def test_strength(save: str) -> None:
    for strength in (0.0, 0.4, torch.tensor(0.4)):
        exact = slope_of(X[:-8], strength=strength)
        coarse = slope_of(X[:-8], strength=strength, save=save)
        assert (coarse - exact).abs().max() <= 0.5 / grid(save=save).scale + 1e-6


@one_path
@every_save
def test_trains_through_a_network_in_place(save: str) -> None:
    """Between layers that need their outputs and layers that need their inputs; against the exact gradient."""

    def gradients(**settings: object) -> Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            undying.SUGAR(**settings),
            nn.Conv2d(8, 8, 3),
            undying.SUGAR(**settings),
            nn.Flatten(),
            nn.Linear(128, 3),
        )
        net(torch.randn(16, 3, 8, 8)).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    exact = gradients()
    error = (gradients(save=save, inplace=True) - exact).norm() / exact.norm()
    assert 0 < error < {"8bit": 0.02, "4bit": 0.3}[save]


@one_path
@every_save
@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "non-reentrant"])
def test_checkpoint_of_the_activation_alone(save: str, use_reentrant: bool) -> None:
    """What it overwrites would be gone when it is run again."""
    x = torch.linspace(-3, 3, 50).requires_grad_()
    module = undying.SUGAR(save=save, inplace=True)
    if use_reentrant:  # as with nn.ReLU(inplace=True)
        with pytest.raises(RuntimeError, match="in-place operation"):
            checkpoint(module, x * 1, use_reentrant=True).sum().backward()
        return
    checkpoint(module, x * 1, use_reentrant=False).sum().backward()
    assert torch.equal(x.grad, slope_of(x, save=save))


@one_path
@every_save
def test_overwriting_what_another_needs_is_an_error(save: str) -> None:
    x = torch.randn(5).requires_grad_()
    y = torch.sigmoid(x)
    undying.sugar(y, save=save, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="leaf"):
        undying.sugar(x, save=save, inplace=True)


@one_path
@every_save
def test_views(save: str) -> None:
    base = torch.linspace(-3, 3, 20).requires_grad_()
    whole = base * 1
    half = undying.sugar(whole[10:], save=save, inplace=True)
    assert torch.equal(whole[10:], half)
    (slope,) = torch.autograd.grad(whole.sum(), base)
    assert torch.equal(slope[:10], torch.ones(10))
    assert torch.equal(slope[10:], slope_of(base[10:], save=save))


@one_path
@every_save
def test_second_derivative_is_an_error(save: str) -> None:
    x = torch.randn(5).requires_grad_()
    (slope,) = torch.autograd.grad(undying.sugar(x, save=save).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@one_path
@every_save
@table.transforms(
    table.func_grad, table.vmap_grad, table.jacrev, table.jacfwd, table.jvp, table.dual_level, table.hessian
)
def test_is_exact_under_transforms(save: str, transform: table.Transform) -> None:
    x = table.POINTS.clone()
    form = closed_forms.bsilu()
    truth = table.truth_at(form.curvature if transform is table.hessian else form.slope, x)
    table.assert_near(transform(undying.SUGAR(save=save, inplace=True), x), truth, x, table.EXACT)


@one_path
@every_save
def test_is_exact_under_compile(save: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(undying.SUGAR(save=save, inplace=True), backend="aot_eager", fullgraph=True)
    x = table.POINTS.clone()
    table.assert_near(table.backward(compiled, x), table.truth_at(closed_forms.bsilu().slope, x), x, table.EXACT)


@one_path
@every_save
def test_without_gradients_x_is_left_alone(save: str) -> None:
    x = torch.randn(9)
    kept = x.clone()
    with torch.no_grad():
        assert torch.equal(undying.sugar(x, save=save, inplace=True), torch.relu(x))
    assert torch.equal(x, kept)


def test_batched_gradients() -> None:
    x = torch.randn(6).requires_grad_()
    (rows,) = torch.autograd.grad(undying.sugar(x, save="8bit"), x, torch.eye(6), is_grads_batched=True)
    assert torch.equal(rows.diagonal(), slope_of(x, save="8bit"))


@one_path
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"save": "8bit", "surrogate": F.softplus}, "save='8bit' needs a named surrogate"),
        ({"save": "4bit", "surrogate": undying.surrogate("elu", alpha=50.0)}, "derivative of elu.* too far for 4 bits"),
        ({"save": "2bit"}, "save must be 'exact' or '8bit' or '4bit', not '2bit'"),
        ({"rounding": "down"}, "rounding must be 'nearest' or 'stochastic', not 'down'"),
    ],
)
def test_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        undying.SUGAR(**settings)(torch.ones(2, requires_grad=True))


@one_path
def test_repr() -> None:
    module = undying.SUGAR(save="8bit", rounding="stochastic", inplace=True)
    assert repr(module) == "SUGAR(bsilu(a=1.67), inplace=True, save='8bit', rounding='stochastic')"


def test_a_kernel_is_at_work(path: str) -> None:
    x = torch.randn(10).requires_grad_()
    with torch.profiler.profile() as profile:
        undying.sugar(x, save="8bit").sum().backward()
    seen = {event.key for event in profile.key_averages()}
    assert ({"undying::bsilu_quantise", "undying::dequantise"} <= seen) == (path in native.INSTRUCTIONS)
