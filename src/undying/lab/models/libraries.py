"""Networks that are not in our list: torchvision's and timm's by name, and the user's own by import path."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from torch import nn

from undying._base import imports
from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.lab.models.vision import stock

LIBRARIES = ("torchvision", "timm")


def load_model(spec: str, classes: int = 0) -> nn.Module:
    """A network as ``torchvision:NAME``, ``timm:NAME`` (with random weights) or ``package.module:function``.

    The function is called without arguments, or with the number of classes that is asked for, see :func:`fitted_model`; the
    working directory is searched too.

    Raises:
        UndyingError: the library, module or function is not there, raises something or does not give a network.
    """
    try:
        return _made(spec, *_asked(spec, classes)) if classes else _made(spec, {}, {}, {})
    except UndyingError:
        raise
    except Exception as error:
        raise imports.raised(spec, "model", error) from error


def fitted_model(spec: str, shape: tuple[int, ...], classes: int, drop_path: float) -> nn.Module:
    """The same for given data: of a sample's shape and a number of classes.

    The user's function gets those of ``shape``, ``classes``, ``num_classes``, ``outputs`` (all three are the same number) and
    ``drop_path`` that it has as parameters.
    """
    depth = {"stochastic_depth_prob": drop_path} if drop_path else {}
    return _made(
        spec,
        {"shape": shape, "classes": classes, **depth},
        {"num_classes": classes, "in_chans": shape[0], "shape": shape, "drop_path_rate": drop_path},
        {"shape": shape, "classes": classes, "num_classes": classes, "outputs": classes, "drop_path": drop_path},
    )


def _asked(spec: str, classes: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    names = ("classes", "num_classes", "outputs")
    if spec.partition(":")[0] not in LIBRARIES:
        parameters = inspect.signature(imports.find(spec, "model")).parameters
        if not parameters.keys() & set(names):
            raise UndyingError(f"model {spec!r} has no parameter {', '.join(names[:-1])} or {names[-1]} for --classes")
    return {"classes": classes}, {"num_classes": classes}, dict.fromkeys(names, classes)


def _made(spec: str, torchvision: dict[str, Any], timm: dict[str, Any], own: dict[str, Any]) -> nn.Module:
    source, _, name = spec.partition(":")
    if not name:
        raise UndyingError(f"model {spec!r} must be torchvision:NAME, timm:NAME or package.module:function")
    try:
        if source == "torchvision":
            return _torchvision(name, **torchvision)
        if source == "timm":
            return _timm(name, **timm)
    except TypeError as error:  # drop path, where there is none to set
        raise UndyingError(f"model {spec!r}: {error}") from None
    except (ValueError, RuntimeError) as error:
        raise UndyingError(f"model {spec!r}: {error}") from None
    function = imports.find(spec, "model")
    parameters = inspect.signature(function).parameters
    given = {key: value for key, value in own.items() if key in parameters}
    if own.get("drop_path") and "drop_path" not in given:
        raise UndyingError(f"model {spec!r} has no parameter drop_path, so that --drop-path cannot be set")
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        raise UndyingError(
            f"model {spec!r}: {error}; its parameters may be shape, classes, num_classes, outputs and drop_path, or have defaults"
        ) from None
    try:
        model = function(**given)
    except SystemExit as error:  # it would end the process, as if all were well
        raise RuntimeError("sys.exit was called") from error
    if not isinstance(model, nn.Module):
        raise UndyingError(f"model {spec!r} gives a {type(model).__name__}, not a torch.nn.Module")
    return model


def _torchvision(name: str, shape: tuple[int, ...] = (3,), classes: int = 1000, **depth: float) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # on how googlenet will be initialised one day
        return stock(name, shape, classes, **depth)


def _timm(name: str, shape: tuple[int, ...] = (), drop_path_rate: float = 0.0, **arguments: Any) -> nn.Module:
    timm = need("timm", None, f"model {f'timm:{name}'!r}")
    if drop_path_rate:
        arguments["drop_path_rate"] = drop_path_rate
    config = timm.models.get_pretrained_cfg(name)
    if shape and config is not None and config.fixed_input_size:
        arguments["img_size"] = shape[1:]
    return timm.create_model(name, pretrained=False, **arguments)  # type: ignore[no-any-return]
