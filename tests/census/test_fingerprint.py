"""The fingerprint: blind to order and batching, and to nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undying.census.fingerprint import Fingerprint


def of(batches):
    fingerprint = Fingerprint()
    for batch in batches:
        fingerprint.add(batch)
    return fingerprint.read()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool, torch.complex64]
)
def test_order_and_batching_do_not_matter_and_every_value_does(dtype):
    x, y = (torch.rand(20, 3, 5) * 200).to(dtype), torch.randint(0, 9, (20,))
    whole = of([(x, y)])
    order = torch.randperm(20)
    assert of(zip(x[order].split(6), y[order].split(6), strict=True)) == whole
    changed = x.clone()
    changed[7, 1, 2] = 0 if x[7, 1, 2] != 0 else 1
    assert of([(changed, y)]) != whole
    labels = y.clone()
    labels[3] += 1
    assert of([(x, labels)]) != whole


def test_what_moves_within_or_between_samples_is_seen():
    x, y = torch.rand(20, 4), torch.arange(20)
    whole = of([(x, y)])
    assert of([(x.flip(1), y)]) != whole
    assert of([(x, y.flip(0))]) != whole  # the same inputs and labels, paired otherwise
    assert of([(x[:19], y[:19])]) != whole
    assert of([(torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))]) != whole
    assert of([{"a": x, "b": x}]) != of([{"a": x, "b": x.flip(1)}])


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5), st.integers(0, 61), st.integers(0, 4))
def test_any_single_bit_is_seen(values, bit, position):
    x = torch.tensor([values])
    flipped = x.clone()
    flipped[0, position % len(values)] ^= 1 << bit
    assert of([x]) != of([flipped])


def test_odd_shapes():
    assert of([]) == "0" * 16
    assert len(of([torch.tensor(1.5), ["text", None], torch.zeros(0, 3)])) == 16
    assert of([torch.rand(3, 4).t()]) != of([torch.zeros(4, 3)])
