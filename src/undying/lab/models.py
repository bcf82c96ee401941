"""Networks by name. Each is written with nn.ReLU; ``convert_`` puts the activation in."""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from torch import nn

from undying.errors import UndyingError


def mlp(shape: tuple[int, ...], classes: int, *, depth: int = 6, width: int = 128) -> nn.Module:
    """``depth`` hidden layers of ``width`` units: deep enough that plain ReLU units fall silent."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = math.prod(shape)
    for i in range(1, depth + 1):
        layers[f"linear{i}"] = nn.Linear(features, width)
        layers[f"act{i}"] = nn.ReLU()
        features = width
    layers["head"] = nn.Linear(features, classes)
    return nn.Sequential(layers)


MODELS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {"mlp": mlp}
"""name -> function of (sample shape, number of classes)."""


def load_model(spec: str) -> nn.Module:
    """A network as ``torchvision:NAME``, ``timm:NAME`` (with random weights) or ``package.module:function``.

    The function takes no arguments and returns the network; the working directory is searched too.

    Raises:
        UndyingError: the library, module or function is not there, or does not give a network.
    """
    source, _, name = spec.partition(":")
    if not name:
        raise UndyingError(f"model {spec!r} must be torchvision:NAME, timm:NAME or package.module:function")
    try:
        if source == "torchvision":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # on how googlenet will be initialised one day
                return importlib.import_module("torchvision.models").get_model(name, weights=None)  # type: ignore[no-any-return]
        if source == "timm":
            return importlib.import_module("timm").create_model(name, pretrained=False)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise UndyingError(f"model {spec!r} needs {error.name}: pip install {error.name}") from None
    except (ValueError, RuntimeError) as error:
        raise UndyingError(f"model {spec!r}: {error}") from None
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(importlib.import_module(source), name)()
    except (ModuleNotFoundError, AttributeError) as error:
        raise UndyingError(f"model {spec!r}: {error}") from None
    if not isinstance(model, nn.Module):
        raise UndyingError(f"model {spec!r} gives a {type(model).__name__}, not a torch.nn.Module")
    return model
