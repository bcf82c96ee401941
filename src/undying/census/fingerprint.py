"""Tell whether two censuses saw the same data, whatever the batch size and order, and the same weights."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from undying.ops import native

# Odd 64-bit constants, so that multiplication permutes the integers (Knuth's multiplicative hashing).
_POSITION = -7046029254386353131
_MIX = -4658895280553007687
_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 2**22
"""Most elements of weights that are taken at once; a multiple of what makes a row."""
_ROW = 2**16
"""int64 of weights in a row."""
_SMALL = 2**15
"""Bytes of a tensor up to which a copy takes less time than a call."""


class Fingerprint:
    """A 64-bit sum over samples of a hash of each sample's bits; order and batching do not change it.

    Stays on the data's device until it is read. Not cryptographic: it tells data sets apart, not forgeries.
    """

    def __init__(self) -> None:
        self._sum: Any = 0
        self._in_order: Any = 0
        self._samples = 0
        self.unknown: str | None = None
        """Type of a value that could not be read; there is then no fingerprint."""

    def add(self, batch: Any) -> None:
        """Take in one batch: tensors and arrays with the samples along the first axis, texts and numbers, in any nest of
        tuples, lists, dicts and dataclasses."""
        samples: Tensor | None = None
        try:
            hashes = _hashes(batch)
        except _UnknownError as unknown:
            self.unknown = str(unknown)
            return
        for i, rows in enumerate(hashes):
            # Texts are hashed on the CPU, wherever the tensors beside them lie.
            h = (rows if samples is None else rows.to(samples.device)) * (2 * i + 1)
            # A tensor that does not go by samples (a scalar, a shared mask) counts as a whole.
            samples = h if samples is None else samples + (h if samples.shape == h.shape else h.sum())
        if samples is not None:
            mixed = _mixed(samples)
            places = torch.arange(self._samples, self._samples + len(mixed), device=mixed.device)
            self._sum = self._sum + mixed.sum()
            self._in_order = self._in_order + (mixed * (2 * places + 1)).sum()
            self._samples += len(mixed)

    def read(self) -> str | None:
        """16 hexadecimal digits; None if a batch held what could not be read."""
        return self._digits(self._sum)

    def read_in_order(self) -> str | None:
        """The same, which the order of the samples changes."""
        return self._digits(self._in_order)

    def _digits(self, total: Any) -> str | None:
        return None if self.unknown else f"{int(total) & (2**64 - 1):016x}"


@torch.no_grad()
def weights_of(model: nn.Module) -> str | None:
    """16 hexadecimal digits of the bits, shapes and types of all floating point and complex parameters and buffers, the same
    on every device; None where one cannot be read, as of a sharded or quantized tensor. Not cryptographic.

    >>> weights_of(nn.Linear(2, 1)) == weights_of(nn.Linear(2, 1))
    False
    """
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if not all(map(_is_plain, held.values())):
        return None
    tensors = [t.detach() for _, t in sorted(held.items()) if t.is_floating_point() or t.is_complex()]
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for t in tensors:
        by_type.setdefault(t.dtype, []).append(t)
    sums = [_sum_of_bits(group) for group in by_type.values()]
    read = torch.stack([total.to(sums[0].device) for total in sums]).tolist() if sums else []
    content = repr(([(str(t.dtype), tuple(t.shape)) for t in tensors], read))
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _is_plain(t: Tensor) -> bool:
    """Whether its memory holds its numbers."""
    dispatches = type(t).__torch_dispatch__ != Tensor.__torch_dispatch__
    return not (is_lazy(t) or t.is_meta or dispatches) and t.layout is torch.strided


def _sum_of_bits(tensors: Sequence[Tensor]) -> Tensor:
    """0-dimensional int64: of tensors of one type, one behind the other, each eight bytes times an odd factor of their own."""
    factors = _weights(_ROW, tensors[0].device)
    hashes, rows, words = [factors.new_zeros(1)], [0], 0
    for raw in _words_in_place(tensors) if all(map(_is_native, tensors)) else _chunks(tensors):
        row, first = divmod(words, _ROW)
        hashes.append(_hash_rows(raw, first, factors))
        rows += range(row + 1, row + 1 + len(hashes[-1]))
        words += len(raw) // 8
    numbers = torch.tensor(rows, device=factors.device)
    return (torch.cat(hashes) * (_mixed(numbers * _POSITION) | 1)).sum()


def _hash_rows(raw: Tensor, first: int, factors: Tensor) -> Tensor:
    """int64, one hash a row of words, of which the first is number ``first`` of its row; ``raw``: uint8, their bytes."""
    if _is_native(raw):
        return native.hash_rows(raw, first, factors)
    assert first == 0
    bits = raw.view(torch.int64)
    width = min(len(bits), len(factors))
    bits = (torch.cat([bits, bits.new_zeros(fill)]) if (fill := -len(bits) % width) else bits).view(-1, width)
    return ((bits ^ (bits >> 32)) * factors[:width]).sum(1)


def _is_native(x: Tensor) -> bool:
    """Whether the native kernels, which read x once, can hash it."""
    return native.missing() is None and type(x) is Tensor and x.is_cpu


def _words_in_place(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """uint8, the bytes of whole words: all their numbers in order, nothing copied but small tensors and words that two share."""
    parts: list[Tensor] = []
    waiting = 0
    for t in tensors:
        raw = _flat(t).contiguous().view(torch.uint8)
        begin = -waiting % 8 if len(raw) > _SMALL else len(raw)
        parts.append(raw[:begin])
        waiting += begin
        if begin < len(raw):
            yield torch.cat(parts)
            end = len(raw) - (len(raw) - begin) % 8
            yield raw[begin:end]
            parts, waiting = [raw[end:]], len(raw) - end
    yield torch.cat([*parts, torch.zeros(-waiting % 8, dtype=torch.uint8)])


def _chunks(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Likewise, in copies of one length but for the last, on the device of the first."""
    parts: list[Tensor] = []
    room = _CHUNK
    for t in tensors:
        flat = _flat(t)
        while len(flat):
            parts.append(flat[:room].to(tensors[0].device))
            flat, room = flat[room:], room - len(parts[-1])
            if not room:
                yield torch.cat(parts).view(torch.uint8)
                parts, room = [], _CHUNK
    if parts:
        raw = torch.cat(parts).view(torch.uint8)
        yield torch.cat([raw, raw.new_zeros(-len(raw) % 8)])


def _flat(t: Tensor) -> Tensor:
    return t.resolve_conj().resolve_neg().reshape(-1)


class _UnknownError(TypeError):
    """A value of a type whose content is not known."""


def _hashes(value: Any) -> list[Tensor]:
    """int64, one hash a sample, for each tensor in ``value``, in an order that its nesting decides."""
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: (type(key).__name__, str(key)))
        return [h for key in keys for h in _hashes(value[key])]
    if isinstance(value, (tuple, list)):
        if value and all(isinstance(part, (str, bytes, int, float, type(None))) for part in value):
            return [torch.tensor([_of_plain(part) for part in value])]  # a sample each
        return [h for part in value for h in _hashes(part)]
    if value is None:
        return []
    if isinstance(value, (str, bytes, int, float)):
        return [torch.tensor([_of_plain(value)])]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [h for f in dataclasses.fields(value) for h in _hashes(getattr(value, f.name))]
    if hasattr(value, "__array__"):  # NumPy's arrays, images of Pillow, frames of pandas
        array = value.__array__()
        if array.dtype.kind in "US":
            return [torch.tensor([_of_plain(str(part)) for part in array.reshape(-1).tolist()])]
        if array.dtype.kind in "biufc":
            return _of_tensor(torch.as_tensor(array.copy()))
    raise _UnknownError(type(value).__name__)


def _of_plain(value: Any) -> int:
    digest = hashlib.blake2b(repr(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _of_tensor(tensor: Tensor) -> list[Tensor]:
    tensor = tensor.detach()
    if tensor.is_nested:
        return [torch.stack([_rows(part.reshape(1, -1)).sum() for part in tensor.unbind()])]
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return [_rows(tensor.resolve_conj().resolve_neg())]


def _rows(tensor: Tensor) -> Tensor:
    """int64: one hash a row of the first axis."""
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    rows = (tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(-1, 1)).contiguous()
    if rows.is_complex():
        rows = torch.view_as_real(rows).flatten(1).contiguous()
    bits = _integers(rows)
    if not bits.numel():
        return bits.sum(1)
    # A bit at the top, such as the sign of a float64, must reach others: two of them would cancel in the sum.
    return _hash_rows(bits.view(-1).view(torch.uint8), 0, _weights(bits.shape[1], bits.device)) + rows.shape[1]


def _integers(rows: Tensor) -> Tensor:
    """The bits of each row as int64: eight bytes in each where they fill it, a value in each elsewhere."""
    if rows.numel() and rows.shape[1] * rows.element_size() % 8 == 0:
        aligned = rows if rows.storage_offset() * rows.element_size() % 8 == 0 else rows.clone()
        return aligned.view(torch.int64)
    return rows.view(_INTEGER[rows.element_size()]).to(torch.int64)


@functools.lru_cache(maxsize=8)
def _weights(n: int, device: torch.device) -> Tensor:
    """A fixed factor a column. Odd, so that no change of a single value is lost."""
    return _mixed(torch.arange(1, n + 1, device=device) * _POSITION) | 1


def _mixed(h: Tensor) -> Tensor:
    """Wrapping arithmetic on int64 that spreads every bit."""
    h = (h ^ (h >> 31)) * _MIX
    return h ^ (h >> 29)
