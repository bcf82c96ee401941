"""Running counts against counts of the values one by one, with and without the native kernels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from undying.census import accumulators
from undying.units.layout import Columns

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-6, -1e-6, 2.2976, 1.0, -1.0, 6.0, -3.0, -0.7, 65504.0]


@pytest.fixture(params=["as installed", "torch"])
def kernels(request, monkeypatch):
    """The native kernels, where they are, and torch's own operations."""
    if request.param == "torch":
        monkeypatch.setattr(accumulators, "_is_native", lambda _: False)


def number(count, values):
    return [sum(1 for v in column if count(v)) for column in values]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ends", [(-math.inf, math.inf), (-math.atanh(0.98), math.atanh(0.98)), (-0.7, 6.0)])
@pytest.mark.parametrize("masked", [False, True])
def test_every_kind_of_number(kernels, dtype, ends, masked):
    outer, units, inner = 5, 4, 6
    x = torch.tensor(SPECIAL, dtype=dtype)[torch.randint(len(SPECIAL), (2, outer, units, inner))]
    x[:, :, 0] = torch.randn(2, outer, inner, dtype=torch.float64).to(dtype)  # a unit of usual numbers
    mask = torch.rand(2, outer, 1, inner) < 0.6 if masked else torch.ones(2, outer, 1, inner, dtype=torch.bool)
    before, after = (
        accumulators.Accumulator(units, ends, torch.device("cpu")),
        accumulators.OutputAccumulator(units, torch.device("cpu")),
    )
    for batch, counted in zip(x, mask, strict=True):
        before.add(Columns(batch.contiguous(), counted if masked else None))
        after.add(Columns(batch.contiguous(), counted if masked else None))
    values = [x[:, :, u][mask[:, :, 0]].tolist() for u in range(units)]
    low, high = torch.tensor(ends, dtype=dtype).tolist()  # where the network's own bounds lie
    assert before.fired.tolist() == number(lambda v: v > 0, values)
    assert before.nonfinite.tolist() == number(lambda v: not math.isfinite(v), values)
    assert before.nan.tolist() == number(math.isnan, values)
    assert before.low.tolist() == number(lambda v: v <= low, values)
    assert before.high.tolist() == number(lambda v: v >= high, values)
    assert after.zeros.tolist() == number(lambda v: v == 0, values)
    for u, column in enumerate(values):
        nan = any(map(math.isnan, column))
        expected = [max(column), math.fsum(max(v, 0.0) for v in column), math.fsum(map(abs, column))]
        found = [before.peak[u], before.rectified[u], after.total[u]]
        for a, b in zip(found, expected, strict=True):
            assert math.isnan(a) if nan else a.item() == pytest.approx(b, rel=1e-12)


@settings(max_examples=30)
@given(data=st.data())
def test_batches_of_any_size_in_any_order_add_up_to_the_same(data):
    rows = torch.randn(data.draw(st.integers(1, 30)), 3, 2)
    order = torch.tensor(data.draw(st.permutations(range(len(rows)))))
    whole, parts = (accumulators.Accumulator(3, (-1.0, 1.0), torch.device("cpu")) for _ in range(2))
    whole.add(Columns(rows, None))
    for batch in rows[order].split(data.draw(st.integers(1, 30))):
        parts.add(Columns(batch, None))
    assert torch.equal(parts.counts, whole.counts)
    assert torch.equal(parts.peak, whole.peak)
    torch.testing.assert_close(parts.rectified, whole.rectified, rtol=1e-14, atol=0)


@pytest.mark.parametrize("before", [2**31 - 1, 2**32, 10**12])
def test_counts_go_on_beyond_what_32_bits_and_floats_hold(kernels, before):
    """2^24 ones more in float32, or 2^31 in int32, would be lost."""
    counts, out = (
        accumulators.Accumulator(2, (-1.0, 1.0), torch.device("cpu")),
        accumulators.OutputAccumulator(2, torch.device("cpu")),
    )
    counts.counts += before
    counts.rectified += float(before)
    out.zeros += before
    out.total += float(before)
    x = torch.tensor([[1.0, -1.0], [3.0, 0.0], [0.5, 0.0]])[:, :, None]
    counts.add(Columns(x, None))
    out.add(Columns(x, None))
    assert (counts.counts - before).tolist() == [[3, 0], [0, 0], [0, 0], [0, 1], [2, 0]]
    assert (out.zeros - before).tolist() == [0, 2]
    assert (counts.rectified - before).tolist() == [4.5, 0.0]
    assert (out.total - before).tolist() == [4.5, 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_half_precision_are_not_in_half_precision(kernels, dtype):
    """1 added 5000 times stops at 256 in bfloat16 and at 2048 in float16."""
    counts = accumulators.Accumulator(1, (-math.inf, math.inf), torch.device("cpu"))
    for _ in range(5):
        counts.add(Columns(torch.ones(1000, 1, 1, dtype=dtype), None))
    assert (counts.fired.item(), counts.rectified.item()) == (5000, 5000.0)


def test_memory_is_a_number_a_unit():
    """Whatever the batch: nothing that a counter holds is as large as one."""
    sizes = []
    for n in (10, 1000):
        counts, out = (
            accumulators.Accumulator(3, (-1.0, 1.0), torch.device("cpu")),
            accumulators.OutputAccumulator(3, torch.device("cpu")),
        )
        counts.add(Columns(torch.randn(n, 3, 5), None))
        out.add(Columns(torch.randn(n, 3, 5), None))
        held = [v for c in (counts, out) for v in vars(c).values() if isinstance(v, torch.Tensor)]
        sizes.append([v.untyped_storage().nbytes() for v in held])
    assert sizes[0] == sizes[1] == [5 * 3 * 8, 3 * 8, 3 * 8, 3 * 8, 3 * 8]
