"""One compiled function, called in more ways than it was compiled for: right or refused, never ReLU's derivative."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd

import undying
from inductor import InTurn
from undying.ops import native, reference

# torch itself warns, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)")

POINTS = torch.tensor([-1.0, -0.1, 2.0], dtype=torch.float64)
SLOPE = undying.surrogate("bsilu").derivative(POINTS)


def reverse(f: Callable[[Tensor], Tensor]) -> Tensor:
    x = POINTS.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def functional(f: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.func.grad(lambda x: f(x).sum())(POINTS)


def dual(f: Callable[[Tensor], Tensor], x: Tensor = POINTS) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


def dual_of_a_leaf(f: Callable[[Tensor], Tensor]) -> Tensor:
    return dual(f, POINTS.clone().requires_grad_())


def dual_without_gradients(f: Callable[[Tensor], Tensor], x: Tensor = POINTS) -> Tensor:
    with torch.no_grad():
        return dual(f, x)


WAYS = (reverse, functional, dual, dual_of_a_leaf, dual_without_gradients)


@pytest.mark.parametrize("first", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("second", WAYS, ids=lambda f: f.__name__)
def test_used_in_two_ways(first: Callable[..., Tensor], second: Callable[..., Tensor]) -> None:
    torch.compiler.reset()
    compiled = torch.compile(undying.SUGAR(), backend="aot_eager", fullgraph=True)
    compiled(POINTS)
    with torch.no_grad():
        compiled(POINTS)
    for way in (first, second):
        try:
            slope = way(compiled)
        except (NotImplementedError, torch._dynamo.exc.TorchDynamoException):
            assert way is not reverse  # what PyTorch does not compile
            continue
        torch.testing.assert_close(slope.detach(), SLOPE, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", WAYS[1:], ids=lambda f: f.__name__)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_compiled_around_it(way: Callable[..., Tensor], requires_grad: bool) -> None:
    """Here the compiler sees the transform."""
    torch.compiler.reset()
    module = undying.SUGAR()

    def run(x: Tensor) -> Tensor:
        if way is functional:
            return torch.func.grad(lambda x: module(x).sum())(x)
        return dual_without_gradients(module, x) if way is dual_without_gradients else dual(module, x)

    x = POINTS.clone().requires_grad_(requires_grad)
    slope = torch.compile(run, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(slope.detach(), SLOPE, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(undying.SURROGATES))
def test_at_a_finite_end_of_the_reach_float32_has_relu_s_derivative(name: str) -> None:
    """What is compiled holds x within the reach and goes by that alone."""
    surrogate = undying.surrogate(name)
    low, high = surrogate.reach
    if torch.isfinite(torch.tensor([low, high])).all():
        ends = torch.tensor([low, high])
        assert surrogate.derivative(ends).tolist() == [0.0, 1.0]
        x = torch.tensor([-torch.inf, 3 * low, 3 * high, torch.inf])
        assert reference.slope(x, surrogate, "all", 0.5).tolist() == [0.0, 0.0, 1.0, 1.0]


ON_THE_CPU = {**dict.fromkeys(native.DTYPES, native.missing() is None), torch.float64: False}


@pytest.mark.parametrize("dtype", ON_THE_CPU, ids=str)
@pytest.mark.parametrize("path", ["auto", "native", "reference"])
def test_the_backward_graph_calls_the_kernel_where_there_is_one(dtype: torch.dtype, path: str) -> None:
    if path == "native" and native.missing():
        return
    torch.compiler.reset()
    called: set[str] = set()

    def keep(graph: torch.fx.GraphModule, _: object) -> Any:
        called.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    with undying.ops.using(path):
        compiled = torch.compile(undying.SUGAR(), backend=aot_autograd(fw_compiler=keep), fullgraph=True)
        compiled(POINTS.to(dtype, copy=True).requires_grad_()).sum().backward()
    assert ("undying.bsilu_backward.default" in called) == (path != "reference" and ON_THE_CPU[dtype])


def test_compiled_float32_has_the_closed_form_s_derivative() -> None:
    """All in one graph, each with an input of its own."""
    torch.compiler.reset()
    modules = [
        undying.SUGAR(name, region=region, strength=strength)
        for name in undying.SURROGATES
        for region, strength in (("all", 1.0), ("negative", 0.5))
    ]
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 8e37, -8e37])
    x = torch.cat([torch.linspace(-30, 30, 4001), special])

    @functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    def compiled(*inputs: Tensor) -> list[Tensor]:
        return [module(x) for module, x in zip(modules, inputs, strict=True)]

    inputs = [x.clone().requires_grad_() for _ in modules]
    gradients = torch.autograd.grad(compiled(*inputs), inputs, [torch.ones_like(x)] * len(inputs))
    for module, gradient in zip(modules, gradients, strict=True):
        truth = reference.slope(x.double(), module.surrogate, module.region, module.strength)
        ulp = torch.finfo(torch.float32).eps * truth.abs().clamp(min=1)
        assert ((gradient.double() - truth).abs() <= 4 * ulp)[~x.isnan()].all(), module


OVERWRITTEN: dict[str, Callable[[Tensor], object]] = {
    "all of it": Tensor.zero_,
    "a part": lambda z: z[:2].fill_(5.0),
    "added to": lambda z: z.add_(1.0),
}


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # Dynamo's, of what it is given
@pytest.mark.parametrize("how", OVERWRITTEN)
@pytest.mark.parametrize("given", [False, True], ids=["made inside", "given"])
def test_what_is_overwritten_later_has_the_derivative_of_before_or_raises(how: str, given: bool) -> None:
    torch.compiler.reset()
    backend = InTurn("eager", "aot_eager", "inductor")

    @functools.partial(torch.compile, backend=backend, fullgraph=True)
    def compiled(z: Tensor) -> Tensor:
        z = z if given else z * 1
        y = undying.sugar(z)
        OVERWRITTEN[how](z)
        return y.sum()

    for dtype in (torch.float32, torch.float64):
        for name in backend.names:
            backend.name = name
            x = POINTS.to(dtype, copy=True).requires_grad_()
            try:
                compiled(x * 1).backward()
            except RuntimeError as error:
                assert "modified by an inplace operation" in str(error), name  # noqa: PT017
                continue
            torch.testing.assert_close(x.grad, SLOPE.to(dtype), msg=lambda m, by=name: f"{by}: {m}")


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.t(),
    "every third": lambda x: x[:, ::3],
    "expanded": lambda x: x[:1].expand(5, -1),
    "negated": torch._neg_view,
    "empty": lambda x: x[:0],
    "one number": lambda x: x[0, 0],
}


@pytest.mark.parametrize(
    ("layouts", "dynamic"),
    # With shapes that are fixed all in one graph, each with an input of its own.
    [([*LAYOUTS], False), *(([layout], True) for layout in LAYOUTS)],
    ids=["fixed", *(f"dynamic-{layout}" for layout in LAYOUTS)],
)
def test_compiled_of_any_layout(layouts: list[str], dynamic: bool) -> None:
    torch.compiler.reset()
    values = torch.linspace(-4, 4, 70).reshape(7, 10)
    inputs = [values.clone().requires_grad_() for _ in layouts]
    same = [x.detach().double().requires_grad_() for x in inputs]

    def f(*inputs: Tensor) -> list[Tensor]:
        outputs = [undying.sugar(LAYOUTS[layout](x)) for layout, x in zip(layouts, inputs, strict=True)]
        return [y[..., ::2] if y.dim() else y for y in outputs]

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    gradients = torch.autograd.grad(sum(y.sum() for y in compiled(*inputs)), inputs)
    with undying.ops.using("reference"):
        expected = torch.autograd.grad(sum(y.sum() for y in f(*same)), same)
    for layout, gradient, truth in zip(layouts, gradients, expected, strict=True):
        torch.testing.assert_close(
            gradient.double(), truth, rtol=1e-6, atol=1e-6, msg=lambda m, of=layout: f"{of}: {m}"
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_one_that_is_called_twice_compiles_where_shapes_are_dynamic(dtype: torch.dtype) -> None:
    """As the ReLU of a residual block is; by the kernels and the closed form, at a strength that is no constant."""
    torch.compiler.reset()
    # Numbers of an object, of its class, and of the module math.
    acts = [undying.SUGAR("bsilu"), undying.SUGAR("selu", strength=0.5), undying.SUGAR(undying.unit_scaled("gelu"))]

    def twice(x: Tensor) -> Tensor:
        for act in acts:
            x = act(act(x) - 0.5)
        return x.sum()

    x = torch.linspace(-4, 4, 70).reshape(7, 10).to(dtype).requires_grad_()
    (expected,) = torch.autograd.grad(twice(x), x)
    compiled = torch.compile(twice, dynamic=True, fullgraph=True, backend="eager")
    (found,) = torch.autograd.grad(compiled(x), x)
    torch.testing.assert_close(found, expected)
