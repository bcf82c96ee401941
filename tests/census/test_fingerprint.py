"""The fingerprint: blind to order and batching, and to nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence

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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_signs_are_seen_in_any_number(dtype):
    x = torch.rand(5, 8).to(dtype) + 1
    seen = {of([x * torch.tensor([-1] * n + [1] * (8 - n))]) for n in range(9)}
    assert len(seen) == 9


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5), st.integers(0, 61), st.integers(0, 4))
def test_any_single_bit_is_seen(values, bit, position):
    x = torch.tensor([values])
    flipped = x.clone()
    flipped[0, position % len(values)] ^= 1 << bit
    assert of([x]) != of([flipped])


class Opaque:
    """What it holds cannot be known."""


@dataclasses.dataclass
class Graph:
    x: torch.Tensor
    name: str = ""


X = torch.rand(6, 4)
KINDS = {
    "conjugate": lambda: (torch.complex(X, X).conj(), torch.complex(X, X)),
    "negative": lambda: (torch.complex(X, X).conj().imag, X),
    "sparse": lambda: (X.to_sparse(), (X + 1).to_sparse()),
    "compressed": lambda: (X.to_sparse_csr(), (X + 1).to_sparse_csr()),
    "quantized": lambda: (
        torch.quantize_per_tensor(X, 0.1, 0, torch.quint8),
        torch.quantize_per_tensor(X + 1, 0.1, 0, torch.quint8),
    ),
    "nested": lambda: (
        torch.nested.nested_tensor([X[:2, 0], X[:3, 1]]),
        torch.nested.nested_tensor([X[:2, 0], X[:3, 2]]),
    ),
    "packed": lambda: (pack_sequence([X[:3], X[:2]]), pack_sequence([X[:3], X[1:3]])),
    "texts": lambda: (["one", "two"], ["one", "three"]),
    "numbers": lambda: ([1.0, 2.0], [1.0, 3.0]),
    "array": lambda: (X.numpy(), X.numpy() + 1),
    "strings": lambda: (np.array(["a", "b"]), np.array(["a", "c"])),
    "mixed keys": lambda: ({1: X, "a": X}, {1: X, "a": X + 1}),
    "dataclass": lambda: (Graph(X), Graph(X + 1)),
    "name in a dataclass": lambda: (Graph(X, "a"), Graph(X, "b")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # torch says that some of these kinds are young
def test_every_kind_of_value_is_told_apart(kind):
    one, other = KINDS[kind]()
    assert of([one]) == of([one]) != of([other])
    assert of([one]) != "0" * 16


def test_texts_go_by_samples():
    assert of([["one", "two"], ["three"]]) == of([["three", "two"], ["one"]])


def test_what_cannot_be_read_gives_no_fingerprint():
    assert of([(X, Opaque())]) is None
    assert of([Opaque(), X]) is None


def test_odd_shapes():
    assert of([]) == "0" * 16
    assert len(of([torch.tensor(1.5), ["text", None], torch.zeros(0, 3)])) == 16
    assert of([torch.rand(3, 4).t()]) != of([torch.zeros(4, 3)])
