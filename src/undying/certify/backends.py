"""What torch may compute with, as it is set now. Rounding depends on it."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from typing import Any

import torch

_OPERAND_ERRORS = {"none": 0.0, "ieee": 0.0, "STRICT": 0.0, "tf32": 2.0**-10, "TF32": 2.0**-10}
_OPERAND_ERRORS |= {"bf16": 2.0**-8, "BF16": 2.0**-8}
_X86 = platform.machine().lower() in ("x86_64", "amd64")


@dataclass(frozen=True)
class Backends:
    """The settings that decide how a network rounds."""

    cpu_operands: float
    """Relative error of the operands of a float32 product on the CPU."""
    cuda_operands: float
    """The same on CUDA devices, where TensorFloat-32 is always taken to be possible."""
    cuda_half_sums: bool
    """Whether CUDA may accumulate float16 and bfloat16 in their own type."""
    cudnn: bool
    """cuDNN, or MIOpen."""
    onednn: bool
    nnpack: bool

    @classmethod
    def now(cls) -> Backends:
        """As they are set."""
        cuda = torch.backends.cuda.matmul
        cudnn: Any = torch.backends.cudnn  # both are modules with properties, which mypy does not follow
        mkldnn: Any = torch.backends.mkldnn
        environment = [os.environ.get(f"{name}_DEFAULT_FPMATH_MODE", "STRICT").upper() for name in ("ONEDNN", "DNNL")]
        return cls(
            _operand_error(mkldnn.matmul.fp32_precision, mkldnn.conv.fp32_precision, *environment),
            max(2.0**-10, _operand_error(cuda.fp32_precision, cudnn.conv.fp32_precision)),
            cuda.allow_fp16_accumulation
            or bool(cuda.allow_fp16_reduced_precision_reduction or cuda.allow_bf16_reduced_precision_reduction),
            cudnn.enabled,
            mkldnn.is_available() and mkldnn.enabled,
            torch.backends.nnpack.is_available() and _nnpack_enabled(),
        )

    def operand_error(self, dtype: torch.dtype, device: torch.device) -> float:
        """Relative error of the operands of a matrix product; infinite where only their sign is known to be kept."""
        if dtype != torch.float32:
            return 0.0
        return self.cpu_operands if device.type == "cpu" else self.cuda_operands

    def half_sums(self, device: torch.device) -> bool:
        """Whether sums of half types may be accumulated in the half type: on x86 it is always float32."""
        return self.cuda_half_sums if device.type == "cuda" else not _X86

    def transforms(
        self, dtype: torch.dtype, device: torch.device, kernel: torch.Size, *, dilated: bool, depthwise: bool
    ) -> str | None:
        """What may compute a convolution by Winograd or FFT, which add terms of both signs whatever those of the
        products: its sums have no relative error. None where nothing does."""
        if device.type == "cuda":
            return "cuDNN" if self.cudnn else None
        if dtype != torch.float32 or dilated or len(kernel) > 2:
            return None
        if depthwise and kernel == (3, 3) and not _X86:
            return "Winograd"
        return "NNPACK" if self.nnpack and not self.onednn and max(kernel) < 17 else None


def _operand_error(*precisions: str) -> float:
    """The largest; infinite for a precision that is not known."""
    return max(_OPERAND_ERRORS.get(precision, math.inf) for precision in precisions)


def _nnpack_enabled() -> bool:
    (enabled,) = torch.backends.nnpack.set_flags(True)  # torch has no other public way to ask
    torch.backends.nnpack.set_flags(enabled)
    return bool(enabled)
