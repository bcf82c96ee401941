"""The native CPU kernels (csrc/): loading the library, and its operators as functions.

The library is built when undying is installed where a C++ compiler and torch's headers are (setup.py). Without it
everything works through :mod:`undying.ops.reference`.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from undying._torch import OpOverload, below_autograd, dispatch_keys
from undying.surrogates import BUILT_IN, Surrogate

INSTRUCTIONS = ("portable", "avx2", "avx512")
"""From plain to wide."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The types that the activation kernels take; the census kernels take float64 too."""

NAMESPACE = "undying"
"""Of the operators, in ``torch.ops``."""

# Of the operators, as in csrc/library.cpp.
_INTERFACE = 4
_NUMBERS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""As csrc/variant.h has them."""

_LIBRARY = Path(__file__).with_name("kernels.so")


def missing() -> str | None:
    """Why there are no native kernels, or None if there are."""
    return _missing


def instructions() -> str | None:
    """The instruction set in use: the widest that the machine has, or what UNDYING_CPU says; None without a library."""
    return _instructions


def use_instructions(name: str) -> None:
    """Use one of ``INSTRUCTIONS`` from now on, in every thread.

    Raises:
        ValueError: there is no such set, or this machine does not have it.
        RuntimeError: there are no native kernels.
    """
    global _instructions
    if name not in INSTRUCTIONS:
        raise ValueError(
            f"the instruction set (UNDYING_CPU) must be {', '.join(INSTRUCTIONS[:-1])} or {INSTRUCTIONS[-1]}, not {name!r}"
        )
    if _missing:
        raise RuntimeError(f"there are no native kernels: {_missing}")
    if torch.ops.undying.use_instructions(INSTRUCTIONS.index(name)) < 0:
        raise ValueError(f"this machine does not have the instruction set {name!r}")
    _instructions = name


@functools.cache
def operator(name: str) -> OpOverload | None:
    """An operator of the library by its name, or None where the library does not have it or is not there.

    ``<surrogate>_backward``, ``barelu``, ``barelu_backward``.
    """
    packet = None if _missing else getattr(torch.ops.undying, name, None)
    return packet.default if packet is not None else None


def parameter(surrogate: Surrogate) -> float:
    """A built-in surrogate's only parameter, as its operators take it; 0 where it has none."""
    values = [float(getattr(surrogate, f.name)) for f in fields(surrogate)]  # type: ignore[arg-type]
    (a,) = values or [0.0]
    return a


@dataclass(frozen=True, slots=True)
class SlopeKernel:
    """SUGAR's backward pass with one surrogate: gradient * f~'(x), as ``reference.slope`` has it."""

    operator: OpOverload
    direct: Callable[..., None]
    """The same on addresses. The dispatcher takes longer than the work on a small tensor, so it is passed by where
    there is nothing for it to do."""
    a: float
    low: float
    high: float

    def __call__(self, gradient: Tensor, x: Tensor, strength: float) -> Tensor:
        """``x`` is one that the kernels serve, or what saved-tensor hooks made of it."""
        if (
            serves(gradient)
            and gradient.is_contiguous()
            and x.is_contiguous()
            and x.is_cpu
            and x.dtype is gradient.dtype
            and x.shape == gradient.shape
        ):
            out = torch.empty_like(x)
            number, count = _NUMBERS[x.dtype], x.numel()
            addresses = gradient.data_ptr(), x.data_ptr(), out.data_ptr()
            self.direct(number, *addresses, count, self.a, strength, self.low, self.high)
            return out
        with below_autograd():
            result: Tensor = self.operator(gradient, x, self.a, strength, self.low, self.high)
        return result


def slope_kernel(surrogate: Surrogate, low: float, high: float) -> SlopeKernel | None:
    """The kernel for a built-in surrogate, or None where the library is not there.

    Args:
        low, high: where the derivative is the surrogate's; ReLU's elsewhere.
    """
    name = f"{surrogate.name}_backward"
    found = operator(name)
    if found is None:
        return None
    direct = getattr(ctypes.CDLL(str(_LIBRARY)), f"undying_{name}")
    direct.argtypes = [ctypes.c_int32, *[ctypes.c_void_p] * 3, ctypes.c_int64, *[ctypes.c_float] * 4]
    direct.restype = None
    return SlopeKernel(found, direct, parameter(surrogate), low, high)


def serves(x: Tensor) -> bool:
    """Whether the activation kernels take this tensor: ordinary memory of the CPU in one of ``DTYPES``."""
    return _missing is None and x.dtype in _NUMBERS and dispatch_keys(x).raw_repr() in _ORDINARY


def count_inputs(
    x: Tensor, units: int, inner: int, low: float, high: float, counts: Tensor, peak: Tensor, total: Tensor
) -> None:
    """Read ``x`` once and add what is in it to the running counts of every unit.

    Args:
        x: contiguous, on the CPU, float16, bfloat16, float32 or float64; seen as (outer, units, inner).
        units, inner: sizes of the last two axes of that view; they divide ``x.numel()``.
        low, high: thresholds for the last two rows of ``counts``.
        counts: int64 (5, units), added to: x > 0; not finite; NaN; x <= low; x >= high.
        peak: float64 (units,), the running maximum of x; NaN once x has one, as in ``torch.amax``.
        total: float64 (units,), added to: the sum of max(x, 0), in double precision; NaN where x has one.

    Raises:
        RuntimeError: a tensor is not as described.
    """
    torch.ops.undying.count_inputs(x, units, inner, low, high, counts, peak, total)


def count_outputs(h: Tensor, units: int, inner: int, zeros: Tensor, total: Tensor) -> None:
    """The same for an activation's output.

    Args:
        h, units, inner: as in :func:`count_inputs`.
        zeros: int64 (units,), added to: h == 0 (of either sign).
        total: float64 (units,), added to: the sum of abs(h), in double precision.

    Raises:
        RuntimeError: a tensor is not as described.
    """
    torch.ops.undying.count_outputs(h, units, inner, zeros, total)


def hash_rows(x: Tensor, first: int, factors: Tensor) -> Tensor:
    """int64 (rows,): the wrapping sum of (bits ^ bits >> 32) * factor over the 64-bit words of each row.

    Args:
        x: uint8, contiguous, on the CPU: the bytes of whole words.
        first: number of the first word in the first row, which has fewer words by that; the last may have too.
        factors: int64, contiguous, on the CPU: one for each word of a row.

    Raises:
        RuntimeError: a tensor is not as described.
    """
    out = factors.new_empty(-(-(first + x.numel() // 8) // len(factors)))
    torch.ops.undying.hash_rows(x, first, factors, out)
    return out


def _load() -> str | None:
    """Load the library. Returns why that cannot be done."""
    if not _LIBRARY.exists():
        return "they were not built: install undying again where a C++ compiler and torch 2.10 or newer are"
    try:
        torch.ops.load_library(_LIBRARY)
    except OSError as error:
        return f"{_LIBRARY} does not load: {error}"
    found = torch.ops.undying.interface() if hasattr(torch.ops.undying, "interface") else 0
    if found != _INTERFACE:
        return f"{_LIBRARY} was built for another undying (interface {found}, not {_INTERFACE}): install undying again"
    return None


def _best_instructions() -> str:
    return INSTRUCTIONS[torch.ops.undying.use_instructions(-1)]


def _ordinary_keys() -> Iterator[int]:
    for mode in (False, True):
        with torch.inference_mode(mode):
            yield dispatch_keys(torch.empty(0, device="cpu")).raw_repr()


def _nothing(*_: object) -> None:
    """What an operator that returns nothing makes of tensors without numbers."""


def like(x: Tensor, *_: object) -> Tensor:
    """What barelu makes of tensors without numbers, as torch.compile has them."""
    return torch.empty_like(x)


def like_second(_: Tensor, x: Tensor, *__: object) -> Tensor:
    """The same of a backward operator, which takes the gradient first."""
    return torch.empty_like(x)


_missing = _load()
if _missing is None and dispatch_keys is None:
    _missing = f"torch {torch.__version__} has no torch._C._dispatch_keys"
_instructions = None if _missing else _best_instructions()
_ORDINARY = frozenset() if _missing else frozenset(_ordinary_keys())
if _missing:
    logging.getLogger(__name__).debug("no native kernels: %s", _missing)
_fakes: dict[str, Callable[..., Tensor | None]] = {
    "count_inputs": _nothing,
    "count_outputs": _nothing,
    "barelu": like,
    "barelu_backward": like_second,
    **{f"{cls.name}_backward": like_second for cls in BUILT_IN},
}
for _name, _function in _fakes.items():
    if operator(_name) is not None:
        torch.library.register_fake(f"undying::{_name}", _function)
if "UNDYING_CPU" in os.environ:
    use_instructions(os.environ["UNDYING_CPU"])
