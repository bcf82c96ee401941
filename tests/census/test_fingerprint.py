"""The fingerprint: blind to order and batching, and to nothing else."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import undying
from kernels import instructions_here, kernels
from undying.census import fingerprint
from undying.census.fingerprint import Fingerprint, weights_of
from undying.ops import native


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


# ---------------------------------------------------------------------------------------------------------------------
# Of weights


def holding(**tensors):
    net = nn.Module()
    for name, tensor in tensors.items():
        net.register_buffer(name, tensor)
    return net


def mixed(h):
    h = signed((h ^ (h >> 31)) * -4658895280553007687)
    return h ^ (h >> 29)


def signed(h):
    return (h + 2**63) % 2**64 - 2**63


def factor(i):
    return mixed(signed(i * -7046029254386353131)) | 1


def truth(tensors):
    """The sums by type, in Python's integers: of little-endian words of 8 bytes, by rows of 2**16."""

    raw = b"".join(t.contiguous().view(torch.uint8).numpy().tobytes() for t in tensors)
    total = 0
    for i in range(0, len(raw), 8):
        bits = int.from_bytes(raw[i : i + 8].ljust(8, b"\0"), "little", signed=True)
        bits ^= bits >> 32
        total += bits * factor(i // 8 % 2**16 + 1) * factor(i // 8 // 2**16 + 1)
    return signed(total)


@pytest.mark.parametrize("path", [*instructions_here(), "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.complex128])
def test_the_sum_is_that_of_whole_numbers_however_it_is_cut(dtype, path, monkeypatch):
    sizes = (3, 2**18 // (8 * dtype.itemsize // 4), 1, 0, 1, 17_001, 5, 70_001)
    tensors = [torch.randn(n, dtype=dtype) for n in sizes]
    wanted = truth(tensors)
    if path == "none":
        monkeypatch.setattr(native, "_missing", "not built")
    with kernels(path) if path != "none" else contextlib.nullcontext():
        assert int(fingerprint._sum_of_bits(tensors)) == wanted
        assert int(fingerprint._sum_of_bits([torch.empty(0, dtype=dtype)])) == 0
        rows = tensors[1][: 7 * 64].reshape(7, 64)
        hashes = fingerprint._rows(rows) - rows[0].numel() * (2 if dtype.is_complex else 1)
        assert [signed(h * factor(1)) for h in hashes.tolist()] == [truth([row]) for row in rows]
    monkeypatch.setattr(fingerprint, "_CHUNK", 2**16 * 8 // dtype.itemsize)
    assert int(fingerprint._sum_of_bits(tensors)) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_each_number_of_weights_its_place_shape_and_type_are_seen(dtype):
    a, b = torch.randn(5, 7).to(dtype), torch.randn(9).to(dtype)
    seen = [weights_of(holding(a=a, b=b))]
    for t, at in ((a, (0, 0)), (a, (4, 6)), (b, (8,))):
        kept = t[at].clone()
        t[at] = -kept  # one bit
        seen.append(weights_of(holding(a=a, b=b)))
        t[at] = kept
    seen += [weights_of(holding(a=a.flip(0), b=b)), weights_of(holding(a=b, b=a)), weights_of(holding(a=a.T, b=b))]
    seen += [weights_of(holding(a=a.reshape(7, 5), b=b)), weights_of(holding(a=a)), weights_of(holding(a=-a, b=b))]
    other = torch.complex128 if dtype.is_complex else torch.float16
    seen.append(weights_of(holding(a=a.to(other), b=b.to(other))))
    assert len(set(seen)) == len(seen)
    assert weights_of(holding(a=a, b=b, n=torch.tensor(3))) == seen[0]


def test_where_and_how_weights_lie_does_not_matter():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    wanted = weights_of(net)
    assert weights_of(net.to(memory_format=torch.channels_last)) == wanted
    net.eval().requires_grad_(False)
    with torch.inference_mode():
        assert weights_of(net) == wanted
    assert weights_of(nn.Sequential(net)) == wanted  # as in DistributedDataParallel
    if torch.cuda.is_available():
        assert weights_of(net.cuda()) == wanted


class Wrapper(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} was called")


def test_what_cannot_be_read_has_no_fingerprint():
    assert weights_of(nn.LazyLinear(3)) is None
    assert weights_of(nn.Linear(2, 3, device="meta")) is None
    assert weights_of(holding(a=torch.eye(3).to_sparse())) is None
    assert weights_of(holding(a=torch.ones(2).as_subclass(Wrapper))) is None  # as of torchao, or sharded
    assert weights_of(nn.ReLU()) is not None


def test_a_census_and_a_certificate_say_of_which_weights_they_are(tmp_path):
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 2))
    net(torch.randn(9, 4))  # so that the running statistics are not at their start
    x = torch.randn(8, 4)
    counted = undying.census(net, x)
    proved = undying.certify(net, (torch.zeros(1, 4), torch.ones(1, 4)))
    assert counted.weights == proved.weights == weights_of(net) is not None
    for found in (counted, proved):
        found.save(tmp_path / "found.json")
        assert type(found).load(tmp_path / "found.json").weights == found.weights
        content = found.to_dict()
        content.pop("weights")
        assert type(found).from_dict(content).weights is None
        with pytest.raises(ValueError, match="weights 3"):
            type(found).from_dict(content | {"weights": 3})
    assert (counted + undying.census(net, x + 1)).weights == counted.weights
    nn.init.zeros_(net[3].bias)
    assert (counted + undying.census(net, x)).weights is None
