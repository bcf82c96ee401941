"""What is done to an image before a checkpoint's network gets it, as the checkpoint was trained with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undying._base import imports
from undying._base.errors import UndyingError
from undying._base.extras import need
from undying.lab.data.images import TO_ONE_SIZE, Picture

COMPARE = "compare"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CROP, _RESIZE = 224, 256
_FORMS = "compare, imagenet, torchvision, timm, numbers such as 0.5,0.5 or package.module:function"


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to what the network gets."""

    apply: Callable[[Picture, str], Tensor]
    """Function of an image and the mode that all have in common, ``L`` or ``RGB``; gives float (C, H, W)."""
    said: str
    """What it is, in words."""
    mean: tuple[float, ...] | None = None
    """Of pixels from 0 to 1, of each channel or one for all; None where that is not known."""
    std: tuple[float, ...] | None = None
    to_one_size: str = TO_ONE_SIZE
    """What to do where images come out in several sizes."""


def preprocessing(spec: str, model: str, image_size: int = 0) -> Preprocessing | None:
    """What ``--preprocess`` says; None for ``compare``, which takes mean and standard deviation from the data.

    Args:
        spec: ``compare``; ``imagenet``; ``torchvision`` or ``timm``, the transforms that the library has for the network,
            or ``torchvision:ResNet50_Weights.IMAGENET1K_V1``, ``timm:resnet50.a1_in1k`` for others of it; the means and then
            the standard deviations of pixels from 0 to 1, such as ``0.5,0.25``; ``package.module:function``, of an
            image. Empty: that of the library where the network is one of torchvision's or timm's, else ``compare``.
        model: the network, as ``--model`` has it.
        image_size: side of what the network gets; 0: that of the transforms, or the image's own.

    Raises:
        UndyingError: there is no such thing.
    """
    library, _, name = model.partition(":")
    if not spec:
        spec = library if library in ("torchvision", "timm") else COMPARE
    if spec == COMPARE:
        return None
    source, _, given = spec.partition(":")
    if source in ("torchvision", "timm"):
        if not given and source != library:
            raise UndyingError(
                f"--preprocess {spec} takes the transforms of the network, and --model {model} is none of {source}; name "
                f"one: {'torchvision:ResNet50_Weights.IMAGENET1K_V1' if source == 'torchvision' else 'timm:resnet50.a1_in1k'}"
            )
        return _torchvision(given, name, image_size) if source == "torchvision" else _timm(given or name, image_size)
    if spec == "imagenet":
        return _imagenet(image_size)
    if given:
        if image_size:
            raise UndyingError(f"--image-size does not go with --preprocess {spec}, which gives images of its own size")
        return _own(spec)
    return _numbers(spec, image_size)


def _torchvision(weights: str, model: str, size: int) -> Preprocessing:
    models = need("torchvision.models", "vision", "--preprocess torchvision")
    try:
        named = models.get_weight(weights) if weights else models.get_model_weights(model).DEFAULT
    except (ValueError, AttributeError, KeyError):
        what = f"weights {weights!r}, such as ResNet50_Weights.IMAGENET1K_V1" if weights else f"weights of {model!r}"
        raise UndyingError(f"--preprocess: torchvision has no {what}; known: {_FORMS}") from None
    transforms = named.transforms()
    if size:
        if not hasattr(transforms, "crop_size"):
            raise UndyingError(f"--image-size: torchvision's transforms of {named} crop to no size")
        scaled = round(size * transforms.resize_size[0] / transforms.crop_size[0])
        transforms = named.transforms(crop_size=size, resize_size=scaled)
    others = [str(other) for other in type(named) if other is not named and not weights]
    also = f"; other weights have others: {', '.join(f'torchvision:{other}' for other in others)}" if others else ""
    sizes = (
        f"resized to {_plain(transforms.resize_size)}, cropped to {_plain(transforms.crop_size)}"
        if hasattr(transforms, "crop_size")
        else type(transforms).__name__
    )
    mean, std = (_tuple(getattr(transforms, key, None)) for key in ("mean", "std"))
    return _of_library(transforms, f"torchvision's of {named}, {sizes}{_shown(mean, std)}{also}", mean, std)


def _timm(name: str, size: int) -> Preprocessing:
    timm_data, timm_models = (need(f"timm.{part}", None, "--preprocess timm") for part in ("data", "models"))
    try:
        config = timm_models.get_pretrained_cfg(name)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UndyingError(f"--preprocess: timm knows no {name!r}: {error}") from None
    if config is None:
        raise UndyingError(f"--preprocess: timm has no transforms for {name!r}; known: {_FORMS}")
    data = timm_data.resolve_data_config({}, pretrained_cfg=config.to_dict())
    if size:
        data["input_size"] = (data["input_size"][0], size, size)
    said = (
        f"timm's of {name}, cropped to {data['input_size'][-1]} at {data['crop_pct']:g} of the side, "
        f"{data['interpolation']}{_shown(data['mean'], data['std'])}"
    )
    transforms = timm_data.create_transform(**data, is_training=False)
    return _of_library(transforms, said, _tuple(data["mean"]), _tuple(data["std"]))


def _imagenet(size: int) -> Preprocessing:
    transforms = need("torchvision.transforms", "vision", "--preprocess imagenet")
    crop = size or _CROP
    resize = round(crop * _RESIZE / _CROP)
    steps = [transforms.Resize(resize), transforms.CenterCrop(crop), transforms.ToTensor()]
    said = f"imagenet, resized to {resize}, cropped to {crop}{_shown(*_IMAGENET)}"
    return _of_library(transforms.Compose([*steps, transforms.Normalize(*_IMAGENET)]), said, *_IMAGENET)


def _of_library(transforms: Any, said: str, mean: Any, std: Any) -> Preprocessing:
    return Preprocessing(lambda picture, _: _tensor(transforms(picture.in_eight_bits()), said), said, mean, std)


def _own(spec: str) -> Preprocessing:
    function = imports.find(spec, "--preprocess")
    return Preprocessing(
        lambda picture, _: _tensor(imports.ask(spec, "--preprocess", function, picture.in_eight_bits()), spec),
        f"{spec} of each image in RGB",
        to_one_size=f"{spec} must bring all to one size",
    )


def _numbers(spec: str, size: int) -> Preprocessing:
    try:
        numbers = [float(word) for word in spec.split(",")]
    except ValueError:
        raise UndyingError(f"unknown --preprocess {spec!r}; known: {_FORMS}") from None
    half = len(numbers) // 2
    mean, std = tuple(numbers[:half]), tuple(numbers[half:])
    if len(numbers) not in (2, 6) or not all(map(math.isfinite, numbers)) or min(std) <= 0:
        raise UndyingError(
            f"--preprocess {spec!r} must be a mean and a standard deviation above 0, or three of each, of pixels from 0 to 1, "
            "such as 0.5,0.25 or 0.485,0.456,0.406,0.229,0.224,0.225"
        )

    def normalized(picture: Picture, mode: str) -> Tensor:
        pixels = picture.in_unit_range("RGB" if half == 3 else mode, size)
        return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)

    fit = f"numbers, resized and cropped to {size}" if size else "numbers"
    return Preprocessing(normalized, f"{fit}{_shown(mean, std)}", mean, std)


def _tensor(made: Any, what: str) -> Tensor:
    if not isinstance(made, Tensor) or made.dim() != 3 or not made.is_floating_point():
        shown = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise UndyingError(f"--preprocess {what} must give a floating point tensor (C, H, W) for an image, not {shown}")
    return made


def _shown(mean: Any, std: Any) -> str:
    """
    >>> _shown((0.5, 0.5), (0.25, 0.2)), _shown(None, None)
    (', mean 0.5,0.5, std 0.25,0.2', '')
    """
    if mean is None or std is None:
        return ""
    return f", mean {_plain(mean)}, std {_plain(std)}"


def _plain(numbers: Any) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _tuple(numbers: Any) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(float(number) for number in numbers)
