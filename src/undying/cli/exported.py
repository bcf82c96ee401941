"""A network as an ONNX file, held against itself by onnxruntime."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.census.batches import unpacked
from undying.units.tensors import tensors_in

_MOST = 1e-3
"""Largest difference that is rounding, as a share of the largest output: onnxruntime adds in another order."""


def exported(model: nn.Module, data: Iterable[Any]) -> tuple[bytes, float]:
    """The file, for batches of any size, and the largest difference on the data, as a share of the largest output.

    Args:
        model: in eval mode, of one tensor.
        data: batches.

    Raises:
        UndyingError: it cannot be exported or run, or what comes out is something else.
    """
    onnxruntime = need("onnxruntime", "onnx", "--onnx")
    session, content = None, b""
    difference = largest = torch.zeros(())
    for batch in data:
        args, kwargs, _ = unpacked(batch, None)
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            raise UndyingError("--onnx takes networks of one tensor")
        x = args[0]
        if session is None:
            content = _file(model, x)
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        with torch.no_grad():
            wanted = list(tensors_in([model(x)]))
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for one, other in zip(wanted, found, strict=True):
            # Unlike max, it keeps a NaN.
            difference = torch.maximum(difference, (one - torch.from_numpy(other)).abs().max())
            largest = torch.maximum(largest, one.abs().max())
    share = float(difference / largest if largest else difference)
    if not share <= _MOST:
        raise UndyingError(
            f"--onnx: outputs in onnxruntime differ by {share:.2g} of the largest, more than rounding; nothing was written"
        )
    return content, share


def _file(model: nn.Module, x: Tensor) -> bytes:
    example = x if len(x) > 1 else torch.cat([x, x])  # a batch of one would be taken for a size that never changes
    name = next(iter(inspect.signature(model.forward).parameters))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        path = Path(folder, "network.onnx")
        try:
            torch.onnx.export(
                model,
                (example,),
                path,
                dynamo=True,
                verbose=False,
                external_data=False,
                dynamic_shapes={name: {0: torch.export.Dim("batch", min=1)}},
            )
        except Exception as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UndyingError(f"--onnx: torch cannot export {type(model).__name__}: {said}") from error
        return path.read_bytes()
