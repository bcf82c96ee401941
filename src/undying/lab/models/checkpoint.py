"""Read a checkpoint's weights into a network, without ever running code from the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying._torch import COMPILED_PREFIX

_INSIDE = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep the weights among other things."""
_WRAPPED = ("module.", COMPILED_PREFIX)
"""What DistributedDataParallel and torch.compile put before names."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the state dict in ``path``: a .safetensors file, or what ``torch.save`` wrote, read with ``weights_only``.

    Raises:
        UndyingError: the file is not there, holds no weights or anything beside plain data, or does not fit the model.
    """
    weights = _weights(path)
    while weights and all(name.startswith(_WRAPPED) for name in weights):
        weights = {name.partition(".")[2]: value for name, value in weights.items()}
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UndyingError(f"checkpoint {path} does not fit {type(model).__name__}: {error}") from None
    if missing or unexpected:
        told = [
            f"{len(names)} {what}, such as {names[0]!r}"
            for what, names in (("parameters are missing", missing), ("names are unknown", unexpected))
            if names
        ]
        raise UndyingError(f"checkpoint {path} does not fit {type(model).__name__}: {'; '.join(told)}")


def _weights(path: Path) -> dict[str, Tensor]:
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not (
        isinstance(content, Mapping)
        and content
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    ):
        raise UndyingError(f"checkpoint {path} holds no state dict (names and tensors)")
    return dict(content)


def _torch(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):  # torch does not compare the checksums in it
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()
            if damaged is not None:
                raise UndyingError(
                    f"checkpoint {path} is damaged: {damaged} in it does not have its checksum (if none were kept, by "
                    "torch.serialization.set_crc32_options(False), save it again with them)"
                )
        return torch.load(path, map_location="cpu", weights_only=True)
    except UndyingError:
        raise
    except OSError as error:
        raise UndyingError(f"cannot read checkpoint {path}: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise UndyingError(
            f"checkpoint {path} holds Python objects, which are not loaded since they could run code; "
            "save model.state_dict() instead"
        ) from None
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise UndyingError(f"checkpoint {path} is damaged or no checkpoint: {error}") from None


def _safetensors(path: Path) -> Any:
    safetensors = need("safetensors", None, f"checkpoint {path}")
    try:
        return need("safetensors.torch", None, f"checkpoint {path}").load_file(path)
    except OSError as error:
        raise UndyingError(f"cannot read checkpoint {path}: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        raise UndyingError(f"checkpoint {path} is damaged: {error}") from None
