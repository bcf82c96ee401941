"""Read a checkpoint's weights into a network, without ever running code from the file."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying._torch import COMPILED_PREFIX

_WRAPPERS = ("module", COMPILED_PREFIX.removesuffix("."))
"""What DataParallel, DistributedDataParallel, AveragedModel and torch.compile put into names."""
_AVERAGES = "n_averaged"
"""What torch's AveragedModel keeps beside the averages."""
_DEPTH = 4

Weights = dict[str, Tensor]


def load_weights(model: nn.Module, path: Path, key: str = "") -> str:
    """Load a state dict from ``path``: a .safetensors file, or what ``torch.save`` wrote, read with ``weights_only``.

    Among several sets of weights in a file that one is taken which has the network's names and shapes. Names may lie in
    wrappers (``module.``, ``_orig_mod.``), or behind one prefix that all share (``model.``, of Lightning).

    Args:
        model: what to load into.
        path: the file.
        key: which of several sets of weights, such as ``"state_dict_ema"``; a set inside of another by both names,
            ``"last.model"``.

    Returns:
        what was taken of the file, in words; empty where it holds nothing else.

    Raises:
        UndyingError: the file is not there, holds no weights or anything beside plain data, does not fit the model, or
            holds several sets of weights that do.
    """
    sets = dict(_sets(_safetensors(path) if path.suffix == ".safetensors" else _torch(path)))
    if not sets:
        raise UndyingError(f"checkpoint {path} holds no state dict (names and tensors)")
    if key and key not in sets:
        raise UndyingError(f"checkpoint {path} has no weights {key!r} for --checkpoint-key; it has {_listed(sets)}")
    chosen = {key: sets[key]} if key else sets
    fitting = {name: bare for name, weights in chosen.items() if (bare := _fitted(weights, model)) is not None}
    if len(fitting) > 1:
        raise UndyingError(
            f"checkpoint {path} holds several sets of weights that fit: {_listed(fitting)}; "
            "name one with --checkpoint-key"
        )
    if fitting:
        [(name, (weights, without))] = fitting.items()
    else:  # hooks of the model may rename them; else this tells what does not fit
        name = max(chosen, key=lambda name: len(_names(model) & _unwrapped(chosen[name], model).keys()))
        weights, without = _unwrapped(chosen[name], model), ""
    _load(model, weights, f"checkpoint {path}{f', its {name!r},' if name else ''}")
    return ", ".join(said for said in (f"its {name!r}" if name else "", without) if said)


def _load(model: nn.Module, weights: Weights, what: str) -> None:
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UndyingError(f"{what} does not fit {type(model).__name__}: {error}") from None
    state = model.state_dict()
    loaded = {state[name].data_ptr() for name in weights if name in state}
    missing = [name for name in missing if state[name].data_ptr() not in loaded]  # safetensors keep shared ones once
    if missing or unexpected:
        told = [
            f"{len(names)} {problem}, such as {names[0]!r}"
            for problem, names in (("parameters are missing", missing), ("names are unknown", unexpected))
            if names
        ]
        raise UndyingError(f"{what} does not fit {type(model).__name__}: {'; '.join(told)}")


def _sets(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Weights]]:
    """Every state dict in ``content``, which training scripts keep among other things."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield name, dict(content)
    elif depth < _DEPTH:
        for key, value in content.items():
            yield from _sets(value, f"{name}.{key}" if name else key, depth + 1)


def _listed(sets: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in sets) if any(sets) else "one, without a name"


def _names(model: nn.Module) -> set[str]:
    return set(model.state_dict())


def _fitted(weights: Weights, model: nn.Module) -> tuple[Weights, str] | None:
    """The weights by the network's own names, and what these are without; None where they do not fit."""
    state = model.state_dict()
    bare, without = weights, ""
    if weights.keys() != state.keys():
        bare = _unwrapped(weights, model)
        without = "names without their wrappers"
    prefix = ""
    while bare and bare.keys() != state.keys():  # one prefix after the other, if all have it
        first = {name.partition(".")[0] for name in bare if "." in name} | {"" for name in bare if "." not in name}
        if len(first) != 1 or first == {""}:
            return None
        prefix += f"{first.pop()}."
        bare = {name.partition(".")[2]: value for name, value in bare.items()}
        without = f"names without {prefix!r}"
    shapes = all(is_lazy(state[name]) or state[name].shape == value.shape for name, value in bare.items())
    return (bare, without) if bare and shapes else None


def _unwrapped(weights: Weights, model: nn.Module) -> Weights:
    """Without what wrappers of the network, or of parts of it, have put into names."""
    own = {part for name in _names(model) for part in name.split(".")}
    wrappers = {part for part in _WRAPPERS if part not in own}
    counted = _AVERAGES if _AVERAGES not in own else None
    return {
        ".".join(part for part in name.split(".") if part not in wrappers): value
        for name, value in weights.items()
        if name != counted
    }


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
        # The arguments of a training script, which timm's and torchvision's keep: attributes and nothing that runs.
        with torch.serialization.safe_globals([argparse.Namespace]):
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
