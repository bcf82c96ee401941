"""Compile the Triton kernels for GPUs that need not be here: python tests/ops/compile_for_gpus.py [TYPE ...] [NAME ...]

TYPE is fp32, bf16 or fp16, NAME a surrogate, barelu or barelu_backward; by default all of each. Every program is compiled
for less and for more than 2^31 elements, and must count them in 64 bits. Run with TRITON_INTERPRET unset.
"""

from __future__ import annotations

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import undying
from undying.ops import triton_kernels

TARGETS = {
    "sm80": (GPUTarget("cuda", 80, 32), "cubin"),
    "sm90": (GPUTarget("cuda", 90, 32), "cubin"),
    "sm100": (GPUTarget("cuda", 100, 32), "cubin"),
    "gfx942": (GPUTarget("hip", "gfx942", 64), "hsaco"),
}
TYPES = ("fp32", "bf16", "fp16")
NAMES = (*undying.SURROGATES, "barelu", "barelu_backward")


def main(arguments: list[str]) -> None:
    unknown = [a for a in arguments if a not in (*TYPES, *NAMES)]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join((*TYPES, *NAMES))}")
    types = [t for t in TYPES if t in arguments] or TYPES
    names = [n for n in NAMES if n in arguments] or NAMES
    for target in TARGETS:
        sizes = [
            binary_size(target, name, dtype, count) for name in names for dtype in types for count in ("i32", "i64")
        ]
        print(f"{target}: {len(sizes)} programs, {min(sizes)} to {max(sizes)} bytes")


def binary_size(target: str, name: str, dtype: str, count: str) -> int:
    """The length of the compiled program in bytes."""
    kernel = getattr(triton_kernels, name if name.startswith("barelu") else "sugar_backward")
    constants = {"block": 1024, "surrogate": name}
    pointers = ("gradient", "x", "out")
    types = {n: f"*{dtype}" if n in pointers else "constexpr" if n in constants else "fp32" for n in kernel.arg_names}
    source = ASTSource(kernel, {**types, "n": count}, {n: constants[n] for n in kernel.arg_names if n in constants})
    gpu, binary = TARGETS[target]
    compiled = triton.compile(source, target=gpu)
    addresses = [line for line in compiled.asm["ttir"].splitlines() if "tt.addptr" in line]
    assert addresses
    assert all("tensor<1024xi64>" in line for line in addresses), addresses
    return len(compiled.asm[binary])


if __name__ == "__main__":
    main(sys.argv[1:])
