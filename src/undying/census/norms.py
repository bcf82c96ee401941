"""The norms of gradients and updates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def norms(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """L2 norms, read off the device at once."""
    found = [_norm(t) for t in tensors.values()]
    values = torch.stack([norm.to(found[0].device) for norm in found]).tolist() if found else []
    return dict(zip(tensors, values, strict=True))


def _norm(tensor: Tensor) -> Tensor:
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce().values()  # what lies at one place is added first
    elif tensor.layout != torch.strided:
        tensor = tensor.values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    norm = torch.linalg.vector_norm(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
    # Of a DTensor, which is in parts on several devices, the norm is one too.
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole
