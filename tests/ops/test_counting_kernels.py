"""The census kernels against torch's own reductions, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undying.ops import native

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)

#: (outer, units, inner): units last and units before others, shorter and longer than any vector, and its odd ends.
SHAPES = [
    (1, 1, 1),
    (7, 3, 1),
    (33, 17, 1),
    (300, 65, 1),
    (5, 4, 2),
    (40, 9, 7),
    (3, 5, 15),
    (2, 3, 16),
    (9, 4, 17),
    (37, 6, 49),
    (2, 31, 1000),
    (1, 70_001, 1),
    (1, 3, 70_001),
    (5000, 33, 1),
    (700, 2, 120),
]

pytestmark = pytest.mark.usefixtures("instructions")


def numbers(shape: tuple[int, ...], dtype: torch.dtype, special: bool = False) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)
    x[x.abs() < 0.1] = 0.0
    x[(x == 0) & (torch.rand(shape, generator=torch.Generator().manual_seed(4)) < 0.5)] = -0.0
    if special:
        planted = torch.tensor([torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).max, torch.finfo(dtype).tiny])
        places = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(5))[: max(1, x.numel() // 50)]
        x.view(-1)[places] = planted[torch.arange(len(places)) % 5].to(dtype)
    return x


def fresh(units: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.zeros(5, units, dtype=torch.int64),
        torch.full((units,), -torch.inf, dtype=torch.float64),
        torch.zeros(units, dtype=torch.float64),
    )


def counted(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    running = fresh(x.shape[1])
    native.count_inputs(x, x.shape[1], x.shape[2], low, high, *running)
    return running


def assert_counts(running: tuple[Tensor, Tensor, Tensor], x: Tensor, low: float, high: float) -> None:
    counts, peak, total = running
    wide = x.double()
    conditions = (wide > 0, ~wide.isfinite(), wide.isnan(), wide <= low, wide >= high)
    assert torch.equal(counts, torch.stack([condition.sum((0, 2)) for condition in conditions])), x.shape
    named = {"equal_nan": True, "msg": lambda said: f"{tuple(x.shape)}: {said}"}
    torch.testing.assert_close(peak, wide.amax((0, 2)), rtol=0, atol=0, **named)
    torch.testing.assert_close(total, torch.relu(wide).sum((0, 2)), rtol=1e-13, atol=0, **named)


@every_dtype
@pytest.mark.parametrize("special", [False, True], ids=["finite", "special"])
def test_counts(dtype: torch.dtype, special: bool) -> None:
    """Of inputs and of outputs, in every shape."""
    for shape in SHAPES:
        x = numbers(shape, dtype, special)
        assert_counts(counted(x, -0.5, 1.25), x, -0.5, 1.25)
        zeros, total = torch.full((shape[1],), 3), torch.ones(shape[1], dtype=torch.float64)
        native.count_outputs(x, shape[1], shape[2], zeros, total)
        assert torch.equal(zeros, 3 + (x == 0).sum((0, 2))), shape
        expected = 1 + x.double().abs().sum((0, 2))
        torch.testing.assert_close(
            total, expected, rtol=1e-13, atol=0, equal_nan=True, msg=lambda said, shape=shape: f"{shape}: {said}"
        )


@every_dtype
def test_batches_add_up(dtype: torch.dtype) -> None:
    x = numbers((30, 5, 20), dtype, special=True)
    running = fresh(5)
    for batch in x.split([1, 9, 20]):
        native.count_inputs(batch.contiguous(), 5, 20, -1.0, 1.0, *running)
    assert_counts(running, x, -1.0, 1.0)


@every_dtype
@pytest.mark.parametrize("offset", [1, 3])
def test_any_place_in_a_storage(dtype: torch.dtype, offset: int) -> None:
    for shape in ((37, 5, 1), (11, 5, 3), (6, 5, 40)):
        count = torch.Size(shape).numel()
        storage = torch.full((offset + count + 40,), torch.nan, dtype=dtype)
        storage[offset : offset + count] = numbers(shape, dtype).flatten()
        x = storage[offset : offset + count].view(shape)
        assert_counts(counted(x, -1.0, 1.0), x, -1.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high"), [(-torch.inf, torch.inf), (0.0, 0.0), (torch.nan, torch.nan), (1e300, -1e300)]
)
def test_thresholds(low: float, high: float) -> None:
    x = numbers((20, 4, 33), torch.float64, special=True)
    assert_counts(counted(x, low, high), x, low, high)


def test_a_threshold_is_taken_in_the_type_that_is_computed_in() -> None:
    """As torch does: x <= 0.1 compares float32 with the float32 nearest to 0.1."""
    x = torch.full((20, 1, 1), 0.1)
    assert counted(x, 0.1, 0.1)[0][3:].tolist() == [[20], [20]]


@every_dtype
def test_nothing_to_read_changes_nothing(dtype: torch.dtype) -> None:
    counts, peak, total = counted(torch.empty(0, 4, 3, dtype=dtype), -1.0, 1.0)
    assert counts.sum() == 0
    assert (peak == -torch.inf).all()
    assert (total == 0).all()


def test_nan_stays_in_the_peak() -> None:
    running = fresh(1)
    native.count_inputs(torch.tensor([torch.nan]), 1, 1, 0.0, 0.0, *running)
    native.count_inputs(torch.tensor([1.0]), 1, 1, 0.0, 0.0, *running)
    assert running[1].isnan()
    assert running[0][0] == 1


def test_the_sum_is_taken_in_double_precision() -> None:
    x = torch.full((200_000, 2, 1), 0.1)
    exact = 200_000 * x[0, 0, 0].double()
    torch.testing.assert_close(counted(x, 0.0, 0.0)[2], exact.expand(2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(100_000, 3, 1), (3, 100_000, 1), (2, 3, 60_000), (500, 7, 100)], ids=str)
def test_any_number_of_threads(shape: tuple[int, ...], threads: int) -> None:
    before, x = torch.get_num_threads(), numbers(shape, torch.float32, special=True)
    torch.set_num_threads(threads)
    try:
        first, again = counted(x, -1.0, 1.0), counted(x, -1.0, 1.0)
    finally:
        torch.set_num_threads(before)
    assert_counts(first, x, -1.0, 1.0)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("x", "units", "inner", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.int64), 4, 1, "x must be float16, bfloat16, float32 or float64"),
        (torch.zeros(4, 3).t(), 4, 1, "x must be contiguous"),
        (torch.zeros(3, 4), 5, 1, r"12 elements are not \(outer, 5 units, 1\)"),
        (torch.zeros(3, 4), 0, 1, r"not \(outer, 0 units"),
        (torch.zeros(3, 4), 2**40, 2**40, "12 elements"),
    ],
)
def test_wrong_input(x: Tensor, units: int, inner: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        native.count_inputs(x, units, inner, 0.0, 0.0, *fresh(4))


@pytest.mark.parametrize("wrong", range(3))
def test_wrong_running_counts(wrong: int) -> None:
    for bad in (fresh(5)[wrong], fresh(4)[wrong].float(), fresh(8)[wrong][..., ::2]):
        running = list(fresh(4))
        running[wrong] = bad
        with pytest.raises(RuntimeError, match="the running counts"):
            native.count_inputs(torch.zeros(3, 4), 4, 1, 0.0, 0.0, *running)


def test_opcheck() -> None:
    x = numbers((6, 4, 5), torch.float32)
    torch.library.opcheck(torch.ops.undying.count_inputs.default, (x, 4, 5, -1.0, 1.0, *fresh(4)))
    zeros, total = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.float64)
    torch.library.opcheck(torch.ops.undying.count_outputs.default, (x, 4, 5, zeros, total))
