"""The transform table: every activation, in every mode, is right under everything that PyTorch can do to it.

One test function a row; every row runs over ``CASES``, on every one of ``PATHS``. What else a row varies, it goes through
within the test and names where it fails: thousands of tests of a millisecond each would take longer to start than to run.
The truth is ``closed_forms``, which knows neither undying nor autograd. The last tests of this file feed the rows
activations that are known to be wrong.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import closed_forms
import undying
from inductor import HAS_COMPILER, InTurn

# torch itself warns, at its first forward-mode derivative and at its first use of inductor.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)")

# ---------------------------------------------------------------------------------------------------------------------
# What is tested


@dataclass(frozen=True)
class Case:
    """An activation in one mode, and the truth about it."""

    name: str
    make: Callable[[], nn.Module]
    truth: closed_forms.Form
    #: The forward pass is torch.relu bit for bit, and far out (beyond a quarter of the largest number) so is the slope.
    is_relu: bool = False
    #: What takes seconds a case, inductor and ONNX, runs for these only.
    inductor: bool = False
    onnx: bool = False

    def __str__(self) -> str:
        return self.name


class Lambda(nn.Module):
    """A function as a module, for activations that undying does not have."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _sugar(name: str, region: str = "all", strength: float = 1.0) -> Case:
    custom = name == "custom"
    smooth = closed_forms.softplus() if custom else closed_forms.SURROGATES[name]
    published = name in ("bsilu", "nelu") and region == "all" and strength == 1
    return Case(
        name=f"sugar-{name}-{region}" + (f"-{strength}" if strength != 1 else ""),
        make=lambda: undying.SUGAR(F.softplus if custom else name, region=region, strength=strength),
        truth=closed_forms.sugar(smooth, region, strength),
        is_relu=True,
        inductor=published,
        onnx=published or name == "custom",
    )


CASES = [
    *[_sugar(name, region) for name in [*undying.SURROGATES, "custom"] for region in ("all", "negative")],
    _sugar("bsilu", "all", strength=0.3),
    _sugar("selu", "negative", strength=0.3),
    _sugar("custom", "all", strength=0.3),
    Case("barelu", undying.BAReLU, closed_forms.barelu(), inductor=True, onnx=True),
    Case("barelu-0.1", lambda: undying.BAReLU(eps=0.1), closed_forms.barelu(eps=0.1), inductor=True, onnx=True),
    Case("bsilu", undying.BSiLU, closed_forms.bsilu(), onnx=True),
    Case("nelu", undying.NeLU, closed_forms.nelu(), onnx=True),
]


def _function(name: str, function: Callable[..., Tensor], truth: closed_forms.Form, **arguments: object) -> Case:
    shown = ",".join(f"{key}={value}" for key, value in arguments.items())
    return Case(
        f"{name}({shown})", lambda: Lambda(functools.partial(function, **arguments)), truth, is_relu=name == "sugar"
    )


#: The functional forms take their arguments with every call, also while compiling.
FUNCTIONS = [
    _function("sugar", undying.sugar, closed_forms.sugar(closed_forms.bsilu())),
    _function("sugar", undying.sugar, CASES[3].truth, surrogate="nelu", region="negative"),
    _function("barelu", undying.barelu, closed_forms.barelu(0.2, 0.01), alpha=0.2, eps=0.01),
    _function("bsilu", undying.bsilu, closed_forms.bsilu(1.0), a=1.0),
    _function("nelu", undying.nelu, closed_forms.nelu(0.1), a=0.1),
]

#: Every row runs as a user runs it. There the reference implementation computes what is float64 or transformed; in the rows that
#: are neither it is asked for as well. tests/ops/test_kernels.py takes these rows to every instruction set and to Triton.
PATHS = ("auto", "composite")
every_path = pytest.mark.parametrize("path", PATHS, indirect=True)

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_form = pytest.mark.parametrize("case", [*CASES, *FUNCTIONS], ids=str)


#: Every formula in one of the regions: a compiler that knows its operations, and the region of another, knows both.
FORMULAS = [
    *[_sugar(name, ("all", "negative")[i % 2]) for i, name in enumerate([*undying.SURROGATES, "custom"])],
    _sugar("bsilu", "all", strength=0.3),
    *CASES[-4:],
]
VARIANTS = [case for case in [*CASES, *FUNCTIONS] if case.name not in {known.name for known in FORMULAS}]


def in_groups(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """For what is compiled: ten in one graph take half the time of ten graphs."""
    groups = [cases[first : first + 10] for first in range(0, len(cases), 10)]
    return pytest.mark.parametrize("cases", groups, ids=[f"{group[0]} to {group[-1]}" for group in groups])


every_form_in_groups = in_groups([*CASES, *FUNCTIONS])
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@contextlib.contextmanager
def of(*what: object) -> Iterator[None]:
    """Say what of a row failed."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        names = ", ".join(getattr(each, "__name__", str(each)) for each in what)
        raise AssertionError(f"{names}: {type(error).__name__}: {error}") from error


@pytest.fixture(autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    with undying.ops.using(getattr(request, "param", "auto")):
        yield


# ---------------------------------------------------------------------------------------------------------------------
# How it is measured

#: Both sides, both tails, the origin with both signs, and the 1e-300 on each side of it. 21 to 28 is left out: there
#: torch's softplus, which stands for a user's own surrogate, is 1e-9 away from its formula.
POINTS = torch.tensor(
    [
        -700.0,
        -50.0,
        -8.5,
        -3.3,
        -1.67,
        -1.0,
        -0.5,
        -1e-3,
        -1e-300,
        -0.0,
        0.0,
        1e-300,
        1e-3,
        0.5,
        1.0,
        2.4,
        7.9,
        35.0,
        60.0,
    ],
    dtype=torch.float64,
)
EXACT = 1e-12
DEVICE = "cpu"
"""Where the rows of numbers and layouts are computed; tests/gpu_check sets it, and moves ``POINTS``."""

#: Allowed error in ulp of max(1, |truth|). Measured: 12 for gelu_tanh, whose autograd is torch's own, 7 for the others
#: in the wide types; 0.5, one rounding, in the half types, which compute in float32.
ULP = {torch.float64: 16, torch.float32: 16, torch.bfloat16: 1, torch.float16: 1}


def tolerance(dtype: torch.dtype) -> float:
    return ULP[dtype] * torch.finfo(dtype).eps


def truth_at(function: closed_forms.Function, x: Tensor) -> Tensor:
    return torch.from_numpy(closed_forms.at(function, x.flatten().tolist())).reshape(x.shape).to(x.device)


def assert_near(actual: Tensor, expected: Tensor, x: Tensor, tolerance: float) -> None:
    """``actual`` is within ``tolerance * max(1, |expected|)`` of ``expected``; infinities and NaN are equal."""
    actual, expected = actual.detach().double(), expected.double()
    assert actual.shape == expected.shape
    near = (actual - expected).abs() <= tolerance * expected.abs().clamp(min=1)
    wrong = ~(near | (actual == expected) | (actual.isnan() & expected.isnan()))
    assert not wrong.any(), f"at {x[wrong].tolist()}: {actual[wrong].tolist()}, not {expected[wrong].tolist()}"


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Equal down to the sign of zero. NaN is NaN: of several bit patterns torch.relu itself picks by the tensor's length."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    as_integer = {8: torch.int64, 4: torch.int32, 2: torch.int16}[actual.element_size()]
    bits = [t.detach().masked_fill(t.isnan(), torch.nan).contiguous().view(as_integer) for t in (actual, expected)]
    wrong = bits[0] != bits[1]
    assert not wrong.any(), f"{actual[wrong].tolist()} is not {expected[wrong].tolist()}"


def assert_value(case: Case, y: Tensor, x: Tensor, tolerance: float) -> None:
    if case.is_relu:
        assert_same_bits(y, torch.relu(x.detach()))
    else:
        assert_near(y, truth_at(case.truth.value, x), x, tolerance)


Transform = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""(elementwise f, x) -> a derivative of f at each element of x."""


def _weights(x: Tensor) -> Tensor:
    """Incoming gradients: powers of two, which divide out exactly."""
    return 2.0 ** (torch.arange(x.numel()) % 5 - 2).reshape(x.shape).to(x)


def _diagonal(jacobian: Tensor) -> Tensor:
    assert torch.equal(jacobian, torch.diag(jacobian.diagonal())), "elements influence each other"
    return jacobian.diagonal()


def backward(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x, w = x.detach().clone().requires_grad_(), _weights(x)
    f(x).backward(w)
    return x.grad / w


def backward_of_scaled_loss(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    scale = 2.0**14 if x.dtype == torch.float16 else 2.0**40
    x = x.detach().clone().requires_grad_()
    f(x).backward(torch.full_like(x, scale))
    return x.grad / scale


def func_grad(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    w = _weights(x)
    return torch.func.grad(lambda x: (w * f(x)).sum())(x) / w


def vmap_grad(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.grad(f))(x)


def jacrev(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return _diagonal(torch.func.jacrev(f)(x))


def jacfwd(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return _diagonal(torch.func.jacfwd(f)(x))


def jvp(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    w = _weights(x)
    return torch.func.jvp(f, (x,), (w,))[1] / w


def dual_level(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    w = _weights(x)
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, w))).tangent / w


def without_gradients(transform: Transform) -> Transform:
    """no_grad switches off the reverse mode only."""

    @functools.wraps(transform)
    def run(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.no_grad():
            return transform(f, x)

    return run


def hessian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    w = _weights(x)
    return _diagonal(torch.func.hessian(lambda x: (w * f(x)).sum())(x)) / w


def double_backward(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x, w = x.detach().requires_grad_(), _weights(x)
    (slope,) = torch.autograd.grad(f(x), x, w, create_graph=True)
    return torch.autograd.grad(slope, x, w)[0] / w**2


FIRST = (backward, func_grad, vmap_grad, jacrev, jacfwd, jvp, dual_level)
SECOND = (hessian, double_backward)
FORWARD_ALONE = (without_gradients(jvp), without_gradients(dual_level))
COMPILED = (func_grad, jvp, vmap_grad)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives


@every_form
def test_value(case: Case) -> None:
    assert_value(case, case.make()(POINTS), POINTS, EXACT)


def assert_derivatives(case: Case, transforms: Sequence[Transform], truth: closed_forms.Function) -> None:
    for transform in transforms:
        with of(transform):
            assert_near(transform(case.make(), POINTS), truth_at(truth, POINTS), POINTS, EXACT)


@every_form
def test_first_derivative(case: Case) -> None:
    assert_derivatives(case, FIRST, case.truth.slope)


@every_form
def test_second_derivative(case: Case) -> None:
    assert_derivatives(case, SECOND, case.truth.curvature)


@every_case
def test_forward_mode_without_gradients(case: Case) -> None:
    assert_derivatives(case, FORWARD_ALONE, case.truth.slope)


@every_case
def test_without_gradients(case: Case) -> None:
    """The values stay; SUGAR is one relu."""

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            operations.append(str(func))
            return func(*args, **(kwargs or {}))

    operations: list[str] = []
    for mode, dtype in itertools.product([torch.no_grad, torch.inference_mode], DTYPES):
        module, x = case.make(), POINTS.to(dtype)
        operations.clear()
        with of(mode, dtype):
            with mode(), Count():
                y = module(x)
            assert_value(case, y, x, tolerance(dtype))
            if case.is_relu:
                assert operations == ["aten.relu.default"]


# ---------------------------------------------------------------------------------------------------------------------
# torch.compile


def assert_compiles(cases: Sequence[Case], *names: str) -> None:
    """Compiled by each of the backends, activations are what they are, and so are their backward passes: all in one
    graph, each with an input of its own."""
    torch.compiler.reset()
    backends = InTurn(*names)
    modules = [case.make() for case in cases]

    @functools.partial(torch.compile, backend=backends, fullgraph=True)
    def compiled(*inputs: Tensor) -> list[Tensor]:
        return [module(x) for module, x in zip(modules, inputs, strict=True)]

    for backends.name in names:
        inputs, weights = [POINTS.clone().requires_grad_() for _ in cases], _weights(POINTS)
        values = compiled(*inputs)
        slopes = torch.autograd.grad(values, inputs, [weights] * len(cases))
        for case, x, y, slope in zip(cases, inputs, values, slopes, strict=True):
            with of(backends.name, case):
                assert_near(slope / weights, truth_at(case.truth.slope, POINTS), POINTS, EXACT)
                assert_value(case, y, x, EXACT)


def assert_transforms_compile(cases: Sequence[Case], transforms: Sequence[Transform], *names: str) -> None:
    """Compiled by each of the backends, transforms of activations are what they are: all in one graph."""
    torch.compiler.reset()
    backends = InTurn(*names)
    modules = [case.make() for case in cases]

    @functools.partial(torch.compile, backend=backends, fullgraph=True)
    def compiled(x: Tensor) -> list[list[Tensor]]:
        return [[transform(module, x) for transform in transforms] for module in modules]

    for backends.name in names:
        for case, slopes in zip(cases, compiled(POINTS), strict=True):
            for transform, slope in zip(transforms, slopes, strict=True):
                with of(backends.name, transform, case):
                    assert_near(slope, truth_at(case.truth.slope, POINTS), POINTS, EXACT)


@every_form_in_groups
def test_compile(cases: Sequence[Case]) -> None:
    """Dynamo's graph as it is, and through AOTAutograd."""
    assert_compiles(cases, "eager", "aot_eager")


@in_groups(FORMULAS)
def test_compile_of_transforms(cases: Sequence[Case]) -> None:
    assert_transforms_compile(cases, COMPILED, "eager", "aot_eager")


@in_groups(VARIANTS)
def test_trace_of_transforms(cases: Sequence[Case]) -> None:
    """Dynamo's graph alone: it has no operation that is not in another of those that the row above compiles."""
    assert_transforms_compile(cases, COMPILED, "eager")


@in_groups([case for case in CASES if case.onnx])
def test_compile_of_forward_mode_without_gradients(cases: Sequence[Case]) -> None:
    """One of each kind: what is traced without gradients is what the rows above trace with them, whatever the formula."""
    assert_transforms_compile(cases, FORWARD_ALONE, "aot_eager")


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C++ compiler for inductor")
def test_compile_by_inductor() -> None:
    cases = [case for case in CASES if case.inductor]
    assert_compiles(cases, "inductor")
    assert_transforms_compile(cases, COMPILED, "inductor")


@in_groups(FORMULAS)
def test_compile_of_the_composite_form(cases: Sequence[Case]) -> None:
    with undying.ops.using("composite"):
        assert_compiles(cases, "aot_eager")


@every_case
def test_fx_symbolic_trace(case: Case) -> None:
    traced = torch.fx.symbolic_trace(nn.Sequential(case.make()))
    assert_near(backward(traced, POINTS), truth_at(case.truth.slope, POINTS), POINTS, EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def _network(case: Case, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), case.make(), nn.Linear(8, 8), case.make(), nn.Linear(8, 3)).to(dtype)


def _batch(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=dtype) * 3


@every_case
def test_checkpoint(case: Case) -> None:
    module = case.make()
    for use_reentrant in (True, False):
        with of("reentrant" if use_reentrant else "non-reentrant"):
            slope = backward(lambda x, use=use_reentrant: checkpoint(module, x, use_reentrant=use), POINTS)
            assert_near(slope, truth_at(case.truth.slope, POINTS), POINTS, EXACT)


@every_path
@every_case
def test_autocast(case: Case) -> None:
    """Autocast chooses the type of the pre-activation; the activation does with it what it does anywhere."""
    for dtype in (torch.bfloat16, torch.float16):
        with of(dtype):
            assert_autocast(case, dtype)


def assert_autocast(case: Case, dtype: torch.dtype) -> None:
    module, linear = case.make(), nn.Linear(5, 8)
    with torch.autocast("cpu", dtype=dtype):
        x = linear(_batch(torch.float32))
        y = module(x)
        assert module(x.float()).dtype == torch.float32
    assert x.dtype == y.dtype == dtype
    assert_same_bits(y, module(x))
    assert_same_bits(*(torch.autograd.grad(h, x, torch.ones_like(h), retain_graph=True)[0] for h in (y, module(x))))
    # and through to the weights
    assert torch.autograd.grad(y.float().pow(2).sum(), linear.weight)[0].isfinite().all()


@every_path
@every_case
def test_grad_scaler(case: Case) -> None:
    """Scales are powers of two: unscaled, the step is the same to the last bit."""
    stepped = []
    for enabled in (True, False):
        network = _network(case, torch.float32)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        scaler.scale(network(_batch(torch.float32)).pow(2).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        stepped.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert_same_bits(*stepped)


def test_distributed(tmp_path: Path) -> None:
    """DDP and FSDP2 on two ranks, each with half of the batch, give the gradients of one network with all of it.

    One pair of processes for all cases, since starting them takes most of the time.
    """
    torch.multiprocessing.start_processes(_run_rank, (str(tmp_path),), nprocs=2, start_method="forkserver")
    for rank in range(2):
        measured = torch.load(tmp_path / f"gradients-{rank}.pt", weights_only=True)
        assert measured.keys() == {f"{wrapper} {case}" for case in CASES for wrapper in ("ddp", "fsdp2")}
        for name, gradient in measured.items():
            case = next(case for case in CASES if case.name == name.split()[1])
            torch.testing.assert_close(gradient, _gradient(_network(case), _batch()), rtol=EXACT, atol=EXACT, msg=name)


def _gradient(network: nn.Module, batch: Tensor) -> Tensor:
    network(batch).pow(2).mean().backward()
    gradients = [p.grad for p in network.parameters()]
    return torch.cat([(g.full_tensor() if hasattr(g, "full_tensor") else g).flatten() for g in gradients])


def _run_rank(rank: int, directory: str) -> None:
    """What one of the two processes of ``test_distributed`` does."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    store = dist.FileStore(f"{directory}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mesh = dist.init_device_mesh("cpu", (2,))
    half = _batch().chunk(2)[rank]
    gradients = {}
    for case in CASES:
        gradients[f"ddp {case}"] = _gradient(nn.parallel.DistributedDataParallel(_network(case)), half)
        sharded = _network(case)
        for module in (*sharded[::2], sharded):
            fully_shard(module, mesh=mesh)
        gradients[f"fsdp2 {case}"] = _gradient(sharded, half)
    torch.save(gradients, f"{directory}/gradients-{rank}.pt")
    dist.destroy_process_group()


# ---------------------------------------------------------------------------------------------------------------------
# Numbers and layouts

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(3, 1, 0, 2),
    "strided": lambda x: x[:, ::2, :, 1::2],
    "expanded": lambda x: x[:, :1].expand(-1, 7, -1, -1),
    "empty": lambda x: x[:, :0],
    "0-dim": lambda x: x[1, 2, 3, 4],
}


@every_path
@every_case
def test_dtype_and_layout(case: Case) -> None:
    assert_dtypes_and_layouts(case, DTYPES)


def assert_dtypes_and_layouts(case: Case, dtypes: Sequence[torch.dtype]) -> None:
    for dtype, layout in itertools.product(dtypes, LAYOUTS):
        with of(dtype, layout):
            assert_dtype_and_layout(case, dtype, layout)


def assert_dtype_and_layout(case: Case, dtype: torch.dtype, layout: str) -> None:
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 3
    x = LAYOUTS[layout](x.to(DEVICE, dtype)).requires_grad_()
    y = case.make()(x)
    (slope,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.dtype == slope.dtype == dtype
    assert y.stride() == torch.relu(x).stride()
    assert_value(case, y, x, tolerance(dtype))
    assert_near(slope, truth_at(case.truth.slope, x), x, tolerance(dtype))


def special(dtype: torch.dtype) -> Tensor:
    """Each end of the type and of the arithmetic, often enough to meet both vectorised and scalar code."""
    info = torch.finfo(dtype)
    smallest = info.tiny * info.eps
    positive = [0.0, smallest, info.tiny, 100.0, 1e30, info.max * 0.249, info.max, torch.inf]
    return torch.tensor([*positive, *(-x for x in positive), torch.nan], dtype=dtype, device=DEVICE).repeat(5)


@every_path
@every_case
def test_special_values(case: Case) -> None:
    assert_special_values(case, DTYPES, (backward, backward_of_scaled_loss, jvp, vmap_grad))


def assert_special_values(case: Case, dtypes: Sequence[torch.dtype], transforms: Sequence[Transform]) -> None:
    for dtype, transform in itertools.product(dtypes, transforms):
        with of(dtype, transform):
            assert_special_value(case, dtype, transform)


def assert_special_value(case: Case, dtype: torch.dtype, transform: Transform) -> None:
    """The closed form up to a quarter of the largest number that is computed with, its limit or ReLU's slope beyond."""
    module, x = case.make(), special(dtype)
    assert_value(case, module(x), x, tolerance(dtype))
    slope, expected = transform(module, x), truth_at(case.truth.slope, x)
    if case.is_relu:
        computed_in = torch.float64 if dtype == torch.float64 else torch.float32
        far = x.double().abs() > torch.finfo(computed_in).max / 4
        expected = torch.where(far, (x > 0).double(), expected)
    known = ~x.isnan()
    assert_near(slope[known], expected[known], x[known], tolerance(dtype))
    assert slope[known].isfinite().all()


@every_path
@every_case
def test_second_derivative_of_special_values_is_finite(case: Case) -> None:
    for dtype in DTYPES:
        x = special(dtype)
        curvature = double_backward(case.make(), x)
        wrong = ~(curvature.isfinite() | x.isnan())
        assert not wrong.any(), f"{dtype}, at {x[wrong].tolist()}: {curvature[wrong].tolist()}"


# ---------------------------------------------------------------------------------------------------------------------
# Errors


@every_case
def test_wrong_dtype(case: Case) -> None:
    for dtype in (torch.uint8, torch.int32, torch.int64, torch.bool, torch.complex64, torch.complex128):
        refused = pytest.raises(TypeError, match=rf"x must be float16, .*float64, not {re.escape(str(dtype))}")
        with of(dtype), refused:
            case.make()(torch.ones(3, dtype=dtype))


@every_case
def test_not_a_tensor(case: Case) -> None:
    for x in (None, 1.0, [1.0], "1"):
        with of(repr(x)), pytest.raises(TypeError, match=f"x must be a tensor, not {type(x).__name__}"):
            case.make()(x)


@pytest.mark.parametrize("form", ["module", "function"])
@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        (
            "SUGAR",
            {"surrogate": "relu6"},
            ValueError,
            "surrogate 'relu6'; known: bsilu, nelu, leaky_relu, elu, selu, gelu",
        ),
        ("SUGAR", {"surrogate": 3}, TypeError, "surrogate must be a name .*bsilu.*, a Surrogate or a callable, not 3"),
        ("SUGAR", {"surrogate": nn.GELU}, TypeError, "surrogate must be a name .*, not <class .*GELU"),
        ("SUGAR", {"region": "positive"}, ValueError, "region must be 'all' or 'negative', not 'positive'"),
        ("SUGAR", {"region": None}, ValueError, "region must be 'all' or 'negative', not None"),
        ("SUGAR", {"inplace": 1}, TypeError, "inplace must be True or False, not 1"),
        ("SUGAR", {"strength": -0.1}, ValueError, "strength must be between 0 and 1, not -0.1"),
        ("SUGAR", {"strength": 1.5}, ValueError, "strength must be between 0 and 1, not 1.5"),
        ("SUGAR", {"strength": float("nan")}, ValueError, "strength must be between 0 and 1, not nan"),
        ("SUGAR", {"strength": "1"}, TypeError, "strength must be a number, not '1'"),
        ("SUGAR", {"strength": True}, TypeError, "strength must be a number, not True"),
        (
            "SUGAR",
            {"strength": torch.ones(2)},
            ValueError,
            r"strength must be .* 0-dimensional tensor, not of shape \(2,\)",
        ),
        ("BAReLU", {"alpha": -0.01}, ValueError, "alpha must be between 0 and 1, not -0.01"),
        ("BAReLU", {"alpha": 1.01}, ValueError, "alpha must be between 0 and 1, not 1.01"),
        ("BAReLU", {"alpha": float("nan")}, ValueError, "alpha must be between 0 and 1, not nan"),
        ("BAReLU", {"alpha": None}, TypeError, "alpha must be a number, not None"),
        ("BAReLU", {"eps": -1.0}, ValueError, r"eps \(if not 0\) must be between 1e-30 and 1e\+06, not -1.0"),
        ("BAReLU", {"eps": 1e-31}, ValueError, r"eps \(if not 0\) must be between 1e-30 and 1e\+06, not 1e-31"),
        ("BAReLU", {"eps": float("inf")}, ValueError, "eps .* must be between .*, not inf"),
        ("BAReLU", {"eps": float("nan")}, ValueError, "eps .* must be between .*, not nan"),
        ("BAReLU", {"eps": "0"}, TypeError, "eps .* must be a number, not '0'"),
        ("BAReLU", {"inplace": None}, TypeError, "inplace must be True or False, not None"),
        ("BSiLU", {"a": float("inf")}, ValueError, "a must be a finite number, not inf"),
        ("BSiLU", {"a": "1"}, ValueError, "a must be a finite number, not '1'"),
        ("NeLU", {"a": float("nan")}, ValueError, "a must be a finite number, not nan"),
        ("NeLU", {"a": None}, ValueError, "a must be a finite number, not None"),
    ],
)
def test_wrong_argument(
    name: str, form: str, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    module, function = getattr(undying, name), functools.partial(getattr(undying, name.lower()), torch.zeros(2))
    with pytest.raises(error, match=message):
        (module if form == "module" else function)(**arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Modules as objects


@every_case
def test_copies(case: Case) -> None:
    original = case.make().eval()
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert twin is not original
        assert type(twin) is type(original)
        assert repr(twin) == repr(original)
        assert not twin.training
        assert_near(backward(twin, POINTS), truth_at(case.truth.slope, POINTS), POINTS, EXACT)


@every_case
def test_has_no_state(case: Case) -> None:
    network = nn.Sequential(nn.Linear(2, 2), case.make())
    assert network[1].state_dict() == {}
    assert list(network[1].parameters()) == list(network[1].buffers()) == []
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    network.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert network.share_memory() is network
    assert network[1].to(torch.bfloat16).half().double() is network[1]


@every_case
def test_repr_shows_the_arguments(case: Case) -> None:
    module = case.make()
    shown = repr(module)
    assert shown.startswith(type(module).__name__ + "(")
    for argument, default in {"region": "all", "strength": 1.0, "alpha": None, "eps": 0.0, "a": None}.items():
        value = getattr(module, argument, default)
        assert (f"{argument}={value!r}" in shown) == (value != default)
    if case.is_relu:
        assert str(module.surrogate) in shown


# ---------------------------------------------------------------------------------------------------------------------
# Export


class SideBySide(nn.Module):
    """Activations in one program, each with an input and an output of its own, since to export takes its time."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.activations = nn.ModuleList(case.make() for case in cases)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [activation(x) for activation, x in zip(self.activations, inputs, strict=True)]


@in_groups(CASES)
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_export(cases: Sequence[Case], strict: bool) -> None:
    inputs = tuple(POINTS.float() for _ in cases)
    exported = torch.export.export(SideBySide(cases), inputs, strict=strict)
    given = [node for node in exported.graph.nodes if node.op == "placeholder"]
    (returned,) = exported.graph.output_node().args
    for case, x, y, before, node in zip(cases, inputs, exported.module()(*inputs), given, returned, strict=True):
        with of(case):
            assert_value(case, y, x, tolerance(torch.float32))
            if case.is_relu:
                assert (str(node.target), node.args) == ("aten.relu.default", (before,))
                assert list(before.users) == [node]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")  # torch 2.13 about itself
def test_onnx(tmp_path: Path) -> None:
    cases, file = [case for case in CASES if case.onnx], tmp_path / "activations.onnx"
    inputs = tuple(POINTS.float() for _ in cases)
    program = torch.onnx.export(SideBySide(cases).eval(), inputs, dynamo=True, verbose=False)
    program.save(file)
    import onnxruntime  # here, so that tests/gpu_check can take the rows where it is not installed

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    outputs = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    for case, x, given, y, value in zip(cases, inputs, names, outputs, program.model.graph.outputs, strict=True):
        with of(case):
            assert_value(case, torch.from_numpy(y), x, tolerance(torch.float32))
            if case.is_relu:
                node = value.producer()
                assert (node.op_type, [read.name for read in node.inputs]) == ("Relu", [given])


# ---------------------------------------------------------------------------------------------------------------------
# The table has teeth: activations in public use, written as they are written, fail the row named


BSILU = undying.surrogate("bsilu")


class ClassicSUGAR(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient * BSILU.derivative(*ctx.saved_tensors)


def _injected(x: Tensor) -> Tensor:
    smooth = BSILU.value(x)
    return smooth - smooth.detach() + torch.relu(x).detach()


def _literal_barelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, torch.sqrt(torch.maximum(x, torch.zeros_like(x)) ** 2), 0.01 * x)


CLASSIC = Case("classic", lambda: Lambda(ClassicSUGAR.apply), CASES[0].truth, is_relu=True)
INJECTED = Case("injected", lambda: Lambda(_injected), CASES[0].truth, is_relu=True)
LITERAL = Case("literal", lambda: Lambda(_literal_barelu), closed_forms.barelu())


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")  # torch 2.13's Dynamo
def test_classic_function_is_relu_under_compiled_func_grad() -> None:
    assert_derivatives(CLASSIC, [backward], CLASSIC.truth.slope)
    assert_compiles([CLASSIC], "aot_eager")
    with pytest.raises(AssertionError, match=r"at \[-8.5, .*: \[0.0, 0.0"):
        assert_transforms_compile([CLASSIC], [func_grad], "aot_eager")
    # Not merely wrong: it is ReLU's.
    relu = Case("relu", lambda: Lambda(ClassicSUGAR.apply), closed_forms.RELU)
    assert_transforms_compile([relu], [func_grad], "aot_eager")


def test_injection_without_a_clamp_is_nan_at_infinity() -> None:
    assert_derivatives(INJECTED, [jvp], INJECTED.truth.slope)
    with pytest.raises(AssertionError, match=r"nan.* is not .*inf"):
        assert_special_value(INJECTED, torch.float32, backward)


def test_literal_barelu_loses_numbers_and_gradients() -> None:
    test_value(LITERAL)
    with pytest.raises(AssertionError, match="nan"):
        assert_derivatives(LITERAL, [backward], LITERAL.truth.slope)
    with pytest.raises(AssertionError, match="inf"):
        assert_special_value(LITERAL, torch.float16, backward)
