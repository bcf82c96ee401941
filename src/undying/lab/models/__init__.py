"""Networks by name. Each is written with an activation of its own; ``convert_`` puts another in its place."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from undying._base import imports
from undying._base.errors import UndyingError
from undying._base.preserve_state import preserve_state
from undying.activations import known as activations
from undying.lab.activations import REGISTERED
from undying.lab.models.conv2next import SIZES, conv2next
from undying.lab.models.libraries import LIBRARIES, fitted_model, load_model
from undying.lab.models.mlp import mlp
from undying.lab.models.small_cnn import small_cnn
from undying.lab.models.vision import resnet18_cifar, stock, swin_narrow, swin_t, vgg16_cifar, vgg16_narrow
from undying.treat.convert import audit, convert_

__all__ = ["MODELS", "build", "known", "load_model", "own_function", "own_source", "put_in", "target"]


@dataclass(frozen=True)
class Model:
    """A network of the list."""

    build: Callable[..., nn.Module]
    """Function of (sample shape, number of classes), and of drop path where it has that."""
    target: type[nn.Module] = nn.ReLU
    """What it has for an activation."""
    drop_path: bool = False
    images: bool = True
    """Whether it needs images: samples of (C, H, W)."""


MODELS: dict[str, Model] = {
    "mlp": Model(mlp, images=False),
    "small_cnn": Model(small_cnn),
    "vgg16": Model(partial(stock, "vgg16")),
    "vgg16_bn": Model(partial(stock, "vgg16_bn")),
    "vgg16_cifar": Model(vgg16_cifar),
    "vgg16_bn_cifar": Model(partial(vgg16_cifar, name="vgg16_bn")),
    "vgg16_narrow": Model(vgg16_narrow),
    "resnet18": Model(partial(stock, "resnet18")),
    "resnet18_cifar": Model(resnet18_cifar),
    "swin_t": Model(swin_t, nn.GELU, drop_path=True),
    "swin_narrow": Model(swin_narrow, nn.GELU, drop_path=True),
    **{
        name: Model(partial(conv2next, blocks=blocks, widths=widths), nn.GELU, drop_path=True)
        for name, (blocks, widths) in SIZES.items()
    },
}


def target(name: str) -> type[nn.Module]:
    """The type of activation that ``--targets`` calls so.

    Raises:
        UndyingError: there is none.
    """
    known = activations.targets()
    if name not in known:
        raise UndyingError(f"unknown --targets {name!r}; known: {', '.join(known)}; {REGISTERED}")
    return known[name]


def known(spec: str) -> None:
    """Raises UndyingError unless ``spec`` is one of ``MODELS`` or has the form of another kind; nothing is imported."""
    if spec not in MODELS and not all(spec.partition(":")):
        raise UndyingError(
            f"unknown --model {spec!r}; known: {', '.join(MODELS)}, torchvision:NAME, timm:NAME, package.module:function"
        )


def own_function(spec: str) -> Callable[..., nn.Module] | None:
    """The user's function that ``spec`` names by import path; None for the others."""
    ours = spec in MODELS or spec.partition(":")[0] in LIBRARIES
    return None if ours else imports.find(spec, "model")


def own_source(spec: str) -> str:
    """Hash of the source of that function; empty for the others."""
    return "" if own_function(spec) is None else imports.source_sha256(spec, "model")


def build(spec: str, shape: tuple[int, ...], classes: int, drop_path: float = 0.0) -> nn.Module:
    """The network for samples of ``shape`` and so many classes, with its own activation.

    Raises:
        UndyingError: it is not there, or does not fit the data or ``drop_path``.
    """
    if spec not in MODELS:
        return fitted_model(spec, shape, classes, drop_path)
    model = MODELS[spec]
    if model.images and len(shape) != 3:
        raise UndyingError(f"model {spec!r} needs images, samples of (channels, height, width), not {shape}")
    if drop_path and not model.drop_path:
        having = ", ".join(name for name in MODELS if MODELS[name].drop_path)
        raise UndyingError(f"model {spec!r} has no drop path for --drop-path; these have: {having}")
    return model.build(shape, classes, *([drop_path] if model.drop_path else []))


def put_in(
    model: nn.Module,
    spec: str,
    example: torch.Tensor,
    outputs: int | None,
    activation: nn.Module,
    targets: Sequence[str] = (),
) -> None:
    """Put ``activation`` in the place of the network's own, in place.

    Args:
        model: what ``build`` gave for ``spec``.
        example: two samples.
        outputs: what it is to give a sample, a score a class; None: whatever its task takes.
        targets: names of the types to replace; empty: the network's own, which outside ``MODELS`` is the known
            type that it holds or, failing that, calls most often.

    Raises:
        UndyingError: nothing is there to be replaced, or the network does not take such samples or give such outputs.
    """
    kinds = [target(name) for name in targets]
    ours = spec in MODELS
    if not kinds:
        kinds = [MODELS[spec].target] if ours else _own_targets(model, spec, example)
    # A ReLU in the place of a ReLU is that ReLU, which may work in place.
    new = copy.deepcopy if type(activation) is nn.ReLU and kinds == [nn.ReLU] else activation
    try:
        # In ours no activation is called in a forward, which spares the search.
        report = convert_(model, new, kinds, functional=not ours, example=None if ours else example)
        with preserve_state(model), torch.no_grad():
            found = [model.train(mode)(example) for mode in (False, True)]
    except (RuntimeError, TypeError, ValueError) as error:
        raise _misfit(spec, tuple(example.shape[1:]), error) from None
    if report.converted == 0:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UndyingError(f"model {spec!r} has no {names} to replace; see 'undying audit'")
    for output in found if outputs is not None else ():
        given = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if given != (2, outputs):
            raise UndyingError(
                f"model {spec!r} gives {given} for 2 samples; with {outputs} classes or targets, outputs of shape "
                f"{(2, outputs)} are needed"
            )


def _own_targets(model: nn.Module, spec: str, example: torch.Tensor) -> list[type[nn.Module]]:
    known = activations.targets()
    held = Counter(type(module) for module in model.modules() if type(module) in known.values())
    if not held:
        try:
            held = Counter({kind: len(audit(model, example, [kind]).rows) for kind in known.values()})
        except (RuntimeError, TypeError, ValueError) as error:
            raise _misfit(spec, tuple(example.shape[1:]), error) from None
    [(kind, count)] = held.most_common(1)
    if count == 0:
        raise UndyingError(f"model {spec!r} has no activation to replace; looked for {', '.join(known)}")
    return [kind]


def _misfit(spec: str, shape: tuple[int, ...], error: Exception) -> UndyingError:
    reason = " ".join(str(error).split())
    return UndyingError(f"model {spec!r} does not take samples of shape {shape}: {reason}")
