"""The portable kernels compiled for another processor and run in its emulator, against the closed forms in float64.

    python tests/ops/run_elsewhere.py aarch64-linux-gnu-g++ qemu-aarch64 -L /usr/aarch64-linux-gnu

Takes the compiler, then what runs its programs. It prints the largest errors in ulp of max(1, |f'|), and fails where one is
above what the tests of the kernels allow, or where a count or the hash is wrong.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import undying
from undying.ops import native, reference

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-static", f"-I{CSRC}"]
NAMES = [
    "bsilu",
    "nelu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "helu",
    "frigorelu",
]  # as csrc/variant.h has them
PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "variant.h"
using namespace undying;
int main(int, char** argument) {
  const int surrogate = std::atoi(argument[1]), dtype = std::atoi(argument[2]), bytes = dtype ? 2 : 4;
  const Slope slope{float(std::atof(argument[3])), float(std::atof(argument[4])), float(std::atof(argument[5])),
                    float(std::atof(argument[6]))};
  const int64_t count = std::atoll(argument[7]);
  std::vector<char> g(count * bytes), x(count * bytes), out(count * bytes);
  if (std::fread(g.data(), 1, g.size(), stdin) + std::fread(x.data(), 1, x.size(), stdin) != 2 * g.size()) return 1;
  portable.sugar_backward[surrogate](slope, {g.data(), x.data(), out.data(), Dtype(dtype), 0, count});
  std::fwrite(out.data(), 1, out.size(), stdout);
  InputCounts counts;
  portable.count_inputs({x.data(), Dtype(dtype), 1, 1, count, 0, 1, 0, 1}, -1, 1, &counts);
  std::vector<int64_t> factors(x.size() / 8);
  for (size_t i = 0; i < factors.size(); i++) factors[i] = 2 * i + 1;
  const int64_t hash = portable.hash(x.data(), factors.data(), factors.size());
  const int64_t told[] = {counts.positive, counts.nonfinite, counts.nan, counts.low, counts.high, hash};
  std::fwrite(told, sizeof told, 1, stdout);
}
"""


def main(compiler: str, *emulator: str) -> None:
    base = torch.cat([torch.linspace(-18, 18, 20_001), torch.linspace(-125, 125, 20_001)])
    base = torch.cat([base, torch.tensor([0.0, -0.0, 1e-40, 1e30, -1e30, torch.inf, -torch.inf])]).double()
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "main.cpp"), Path(folder, "program")
        source.write_text(PROGRAM)
        subprocess.run([compiler, *FLAGS, str(source), str(CSRC / "portable.cpp"), "-o", str(program)], check=True)
        for number, dtype in enumerate(native.DTYPES):
            x = base.to(dtype)
            g = torch.linspace(-1, 1, len(x)).to(dtype)
            for index, name in enumerate(NAMES):
                surrogate = undying.surrogate(name)
                limits = reference.limits(torch.float32, surrogate, "all")
                settings = [index, number, native.parameter(surrogate), 1.0, *limits, len(x)]
                command = [*emulator, str(program), *map(str, settings)]
                done = subprocess.run(command, input=_bytes(g) + _bytes(x), stdout=subprocess.PIPE, check=True)
                out, counts = done.stdout[: x.nbytes], done.stdout[x.nbytes :]
                _check(name, g, x, torch.frombuffer(bytearray(out), dtype=dtype))
                told = torch.frombuffer(bytearray(counts), dtype=torch.int64).tolist()
                words = x.view(torch.uint8)[: x.nbytes // 8 * 8].view(torch.int64)
                hashed = (words ^ (words >> 32)) * (2 * torch.arange(len(words)) + 1)
                sums = (x > 0, ~x.isfinite(), x.isnan(), x <= -1, x >= 1, hashed)
                assert told == [int(values.sum()) for values in sums], told


def _check(name: str, g: Tensor, x: Tensor, actual: Tensor) -> None:
    truth = g.double() * reference.slope(x.double(), undying.surrogate(name), "all", 1.0)
    error = (actual.double() - truth).abs() / (torch.finfo(x.dtype).eps * truth.abs().clamp(min=1))
    print(f"{name:<11}{str(x.dtype).removeprefix('torch.'):<9}{error.max().item():.3f}")
    assert not (error > (4 if x.dtype == torch.float32 else 1)).any()


def _bytes(x: Tensor) -> bytes:
    return x.contiguous().view(torch.uint8).numpy().tobytes()


if __name__ == "__main__":
    main(*sys.argv[1:])
