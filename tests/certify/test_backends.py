"""Certificates under every backend and precision of torch: what is certified under a setting never fires under it."""

import contextlib
import math

import pytest
import torch
from torch import nn

from certify.attack import bias_at
from undying import Box, certify
from undying._base.errors import UndyingError
from undying.certify import backends
from undying.certify.arithmetic import Arithmetic, Unbounded
from undying.certify.backends import Backends

ONEDNN, NNPACK = torch.backends.mkldnn, torch.backends.nnpack


@pytest.fixture(autouse=True)
def precision_restored():
    """A setting of before that was never made is "none" to torch, also after this."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.backends.fp32_precision = "none"
    for part in (ONEDNN.matmul, ONEDNN.conv, torch.backends.cuda.matmul):
        part.fp32_precision = "none"
    ONEDNN.set_flags(_fp32_precision="none")
    torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def onednn(enabled):
    """torch's own context manager also sets what is for Intel GPUs, and warns of it."""
    before, ONEDNN.enabled = ONEDNN.enabled, enabled
    try:
        yield
    finally:
        ONEDNN.enabled = before


def negative(layer):
    """Products of inputs >= 0 are all <= 0: no unit can fire."""
    with torch.no_grad():
        layer.weight.copy_(-layer.weight.abs())
        layer.bias.zero_()
    return nn.Sequential(layer, nn.ReLU()).eval()


def firings(net, shape, dtype=torch.float32):
    """Of certified units, at sparse inputs, in a batch that is large enough for every backend."""
    certificate = certify(net, Box(torch.zeros(1, *shape), torch.ones(1, *shape)))
    if not certificate["1"].reached:
        return certificate.stopped
    assert certificate["1"].dead.all()
    with torch.no_grad():
        x = torch.rand(32, *shape) * (torch.rand(32, *shape) < 0.1)
        return int((net[0](x.to(dtype)) > 0).sum())


CONVOLUTIONS = {
    "1d": (lambda: nn.Conv1d(8, 16, 3, padding=1), (8, 16), "conv1d"),
    "2d": (lambda: nn.Conv2d(8, 16, 3, padding=1), (8, 16, 16), "conv2d"),
    "2d, padding by name": (lambda: nn.Conv2d(8, 16, 3, padding="same"), (8, 16, 16), "conv2d"),
    "pointwise": (lambda: nn.Conv2d(8, 16, 1), (8, 16, 16), "conv2d"),
    "large": (lambda: nn.Conv2d(8, 16, 16), (8, 20, 20), "conv2d"),
    "grouped": (lambda: nn.Conv2d(8, 16, 5, padding=2, groups=2), (8, 16, 16), "conv2d"),
    "depthwise": (lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8), (8, 16, 16), "conv2d"),
    "strided": (lambda: nn.Conv2d(8, 16, 3, stride=2), (8, 16, 16), "conv2d"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("with_onednn", "with_nnpack"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_convolution_that_may_be_transformed_is_not_bounded(name, with_onednn, with_nnpack):
    """NNPACK takes what oneDNN does not, by Winograd and FFT: products of one sign do not keep it."""
    make, shape, operator = CONVOLUTIONS[name]
    with onednn(with_onednn), NNPACK.flags(enabled=with_nnpack):
        by_nnpack = with_nnpack and NNPACK.is_available() and not (with_onednn and ONEDNN.is_available())
        assert firings(negative(make()), shape) == ([f"0 ({operator} by NNPACK)"] if by_nnpack else 0)


DIRECT = {
    "transposed": (lambda: nn.ConvTranspose2d(8, 16, 3, padding=1), (8, 16, 16), torch.float32),
    "dilated": (lambda: nn.Conv2d(8, 16, 3, dilation=2), (8, 16, 16), torch.float32),
    "3d": (lambda: nn.Conv3d(8, 16, 3, padding=1), (8, 6, 6, 6), torch.float32),
    "very large": (lambda: nn.Conv2d(8, 16, 17), (8, 20, 20), torch.float32),
    "float64": (lambda: nn.Conv2d(8, 16, 3), (8, 16, 16), torch.float64),
    "bfloat16": (lambda: nn.Conv2d(8, 16, 3), (8, 16, 16), torch.bfloat16),
    "float16": (lambda: nn.Conv2d(8, 16, 3), (8, 16, 16), torch.float16),
    "linear": (lambda: nn.Linear(32, 16), (32,), torch.float32),
}


@pytest.mark.parametrize("name", DIRECT)
@pytest.mark.parametrize("with_onednn", [True, False])
def test_what_no_library_transforms_stays_certified(name, with_onednn):
    make, shape, dtype = DIRECT[name]
    with onednn(with_onednn):
        assert firings(negative(make()).to(dtype), shape, dtype) == 0


def test_another_processor_may_transform_depthwise_convolutions_and_sum_in_half(monkeypatch):
    box = Box(torch.zeros(1, 8, 6, 6), torch.ones(1, 8, 6, 6))
    half, depthwise = negative(nn.Conv2d(8, 8, 3)).half(), negative(nn.Conv2d(8, 8, 3, groups=8))
    bias_at(half[0], 2)
    lower = certify(half, box)["1"].lower
    monkeypatch.setattr(backends, "_X86", False)
    assert certify(depthwise, box).stopped == ["0 (conv2d by Winograd)"]
    assert certify(negative(nn.Conv2d(8, 8, 5, groups=8)), box)["1"].dead.all()
    wider = certify(half, box)["1"].lower
    assert (wider <= lower).all()
    assert (wider < lower)[:2].all()


PRECISIONS = {
    "matmul": (lambda p: setattr(ONEDNN.matmul, "fp32_precision", p), ("bf16", "tf32")),
    "convolution": (lambda p: setattr(ONEDNN.conv, "fp32_precision", p), ("bf16", "tf32")),
    "oneDNN": (lambda p: ONEDNN.set_flags(_fp32_precision=p), ("bf16", "tf32")),
    "of all": (lambda p: setattr(torch.backends, "fp32_precision", p), ("bf16", "tf32")),
    "by the older call": (torch.set_float32_matmul_precision, ("medium", "high")),
}


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("convolution", [False, True])
def test_operands_may_be_rounded_as_the_precision_says(name, convolution):
    """Against operands rounded by hand; the older and the newer settings cannot be read by one call."""
    set_precision, (bfloat16, tf32) = PRECISIONS[name]
    x = (torch.arange(1, 65) / 64 + 2.0**-9 + 2.0**-11).reshape(1, 64)
    layer = nn.Conv1d(64, 6, 1) if convolution else nn.Linear(64, 6)
    shape = (1, 64, 1) if convolution else (1, 64)
    net = nn.Sequential(layer, nn.ReLU()).eval()
    with torch.no_grad():
        weight = layer.weight.reshape(6, 64)
        layer.bias.copy_(-(weight.double() @ x[0].double()) - 1e-4)
    at = (x.reshape(shape), x.reshape(shape))
    assert certify(net, at)["1"].dead.all()
    rounded = x.bfloat16().double()[0] @ weight.bfloat16().double().T + layer.bias.double()
    assert (rounded > 0).any()
    for part in (ONEDNN.matmul, ONEDNN.conv):
        part.fp32_precision = "none"
    widths = []
    for precision in (bfloat16, tf32):
        ONEDNN.set_flags(_fp32_precision="none")  # torch.export leaves there what it inherited
        set_precision(precision)
        site = certify(net, at)["1"]
        assert not site.dead.any()
        widths.append(site.upper - site.lower)
        if precision == bfloat16:
            assert (site.upper >= rounded).all()
            assert (site.lower <= rounded).all()
        with torch.no_grad():
            real = layer(x.reshape(shape)).flatten().double()
        assert (real <= site.upper).all()
        assert (real >= site.lower).all()
    assert (widths[0] > 3 * widths[1]).all()


@pytest.mark.parametrize("variable", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_a_precision_of_the_environment_counts(variable, monkeypatch):
    """Under "any" a number may become a float16, of which only the sign is known to be kept."""
    ordinary = nn.Sequential(bias_at(nn.Linear(4, 3), 1), nn.ReLU())
    box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    monkeypatch.setenv(variable, "any")
    assert certify(negative(nn.Linear(4, 3)), box)["1"].dead.all()
    assert certify(ordinary, box)["1"].upper.isinf().any()
    monkeypatch.setenv(variable, "strict")
    assert certify(ordinary, box)["1"].dead.tolist() == [False, True, False]


def test_autocast_is_refused_around_a_network_and_ends_a_certificate_within_it():
    class Within(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.lin, self.act, self.options = nn.Linear(4, 3), nn.ReLU(), options

        def forward(self, x):
            with torch.autocast("cpu", **self.options):
                return self.act(self.lin(x))

    box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    for device, dtype in (("cpu", torch.bfloat16), ("cpu", torch.float16), ("cuda", torch.float16)):
        with (
            torch.autocast(device, dtype) if device == "cpu" or torch.cuda.is_available() else contextlib.nullcontext()
        ):
            if torch.is_autocast_enabled(device):
                with pytest.raises(UndyingError, match=r"autocast, which is on.*model\.to\(torch\.bfloat16\)"):
                    certify(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), box)
    for options in ({"dtype": torch.bfloat16}, {"enabled": False}):
        certificate = certify(Within(**options), box)
        assert certificate.stopped == ["Within (wrap_with_autocast)"]
        assert not certificate["act"].reached


def test_a_forward_that_changes_a_backend_is_refused():
    class Changes(nn.Module):
        def __init__(self, setting):
            super().__init__()
            self.conv, self.act, self.setting = nn.Conv2d(2, 3, 3), nn.ReLU(), setting

        def forward(self, x):
            with self.setting():
                return self.act(self.conv(x))

    @contextlib.contextmanager
    def lowered():
        torch.set_float32_matmul_precision("medium")
        yield
        torch.set_float32_matmul_precision("highest")

    box = Box(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4))
    for setting in (lambda: onednn(False), lambda: torch.backends.cudnn.flags(enabled=False), lowered):
        with pytest.raises(UndyingError, match=r"Changes .*changes a precision or a backend"):
            certify(Changes(setting), box)
    assert certify(Changes(contextlib.nullcontext), box)["act"].reached


def test_settings_are_left_as_they_were():
    with NNPACK.flags(enabled=False), onednn(False):
        certify(negative(nn.Linear(4, 3)), Box(torch.zeros(1, 4), torch.ones(1, 4)))
        assert NNPACK.set_flags(False) == (False,)
        assert not ONEDNN.enabled
    assert NNPACK.set_flags(True) == (True,)


def test_the_arithmetic_of_other_devices():
    """By their names alone: no such device is needed."""
    cuda, kernel = torch.device("cuda"), torch.Size([3, 3])
    matmul = torch.backends.cuda.matmul

    def by():
        return [
            Backends.now().transforms(dtype, cuda, kernel, dilated=False, depthwise=False)
            for dtype in (torch.float32, torch.float16, torch.float64)
        ]

    def of(dtype):
        return Arithmetic.of(dtype, cuda, Backends.now())

    assert by() == ["cuDNN"] * 3
    with torch.backends.cudnn.flags(enabled=False):
        assert by() == [None] * 3
    assert of(torch.float32).operand_u == 2.0**-10  # TensorFloat-32, whatever is set
    assert of(torch.float16).sum_u == 2.0**-11  # torch's default
    assert math.isinf(of(torch.float16).sum_error(4096))
    before = matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction
    try:
        matmul.allow_fp16_reduced_precision_reduction = matmul.allow_bf16_reduced_precision_reduction = False
        assert of(torch.float16).sum_u == of(torch.bfloat16).sum_u == 2.0**-24
        matmul.allow_fp16_accumulation = True
        assert of(torch.float16).sum_u == 2.0**-11
    finally:
        matmul.allow_fp16_accumulation = False
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction = before
    with pytest.raises(Unbounded, match="on mps"):
        Arithmetic.of(torch.float32, torch.device("mps"), Backends.now())
