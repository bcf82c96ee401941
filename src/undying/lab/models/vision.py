"""torchvision's networks: as they are, and with stems for 32x32."""

from __future__ import annotations

from typing import Any

from torch import nn

from undying._base.extras import need


def library(what: str = "torchvision") -> Any:
    """torchvision, or one of its modules."""
    return need(what, "vision", "this model")


def stochastic_depth(rate: float) -> nn.Module:
    """Drop path: the branch is left out for a sample with probability ``rate``."""
    return library("torchvision.ops").StochasticDepth(rate, "row") if rate else nn.Identity()


def stock(name: str, shape: tuple[int, ...], classes: int, **arguments: Any) -> nn.Module:
    """torchvision's own, with the first convolution for another number of channels where the data have one."""
    model: nn.Module = library("torchvision.models").get_model(name, weights=None, num_classes=classes, **arguments)
    return _for_channels(model, shape[0])


def resnet18_cifar(shape: tuple[int, ...], classes: int) -> nn.Module:
    """resnet18 whose stem keeps 32x32: a 3x3 convolution of stride 1 and no pooling, as He et al. 2016 on CIFAR."""
    model: Any = stock("resnet18", shape, classes)
    model.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model  # type: ignore[no-any-return]


def vgg16_cifar(shape: tuple[int, ...], classes: int, *, name: str = "vgg16") -> nn.Module:
    """vgg16's convolutions, the mean over what is left (1x1 from 32x32), and one linear layer: 15 million parameters."""
    return _with_one_layer(stock(name, shape, classes), 512, classes)


def vgg16_narrow(shape: tuple[int, ...], classes: int) -> nn.Module:
    """vgg16_cifar for a CPU: a quarter of the channels, a million parameters."""
    vgg = library("torchvision.models.vgg")
    widths = [width if width == "M" else width // 4 for width in vgg.cfgs["D"]]  # "M": max pooling
    return _with_one_layer(_for_channels(vgg.VGG(vgg.make_layers(widths)), shape[0]), 128, classes)


def _with_one_layer(vgg: Any, channels: int, classes: int) -> nn.Module:
    vgg.avgpool = nn.AdaptiveAvgPool2d(1)
    vgg.classifier = nn.Linear(channels, classes)
    nn.init.normal_(vgg.classifier.weight, 0, 0.01)
    nn.init.zeros_(vgg.classifier.bias)
    return vgg  # type: ignore[no-any-return]


def swin_t(shape: tuple[int, ...], classes: int, drop_path: float) -> nn.Module:
    """torchvision's Swin-T; up to 64x64 with patches of 2 and windows of 4, so that 32x32 leaves maps of 16, 8, 4, 2."""
    small = max(shape[1:]) <= 64
    return swin(
        shape,
        classes,
        drop_path,
        patch_size=[2, 2] if small else [4, 4],
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[4, 4] if small else [7, 7],
    )


def swin_narrow(shape: tuple[int, ...], classes: int, drop_path: float) -> nn.Module:
    """Swin for a CPU: 2, 2, 2 blocks of 32, 64 and 128 channels, patches of 2 and windows of 4."""
    return swin(
        shape,
        classes,
        drop_path,
        patch_size=[2, 2],
        embed_dim=32,
        depths=[2, 2, 2],
        num_heads=[2, 4, 8],
        window_size=[4, 4],
    )


def swin(shape: tuple[int, ...], classes: int, drop_path: float, **size: Any) -> nn.Module:
    """torchvision's Swin transformer of the size that its own arguments say."""
    model: nn.Module = library("torchvision.models").SwinTransformer(
        stochastic_depth_prob=drop_path, num_classes=classes, **size
    )
    if shape[0] != 3:
        _put(model, "features.0.0", _with_channels(model.get_submodule("features.0.0"), shape[0]))
    return model


def _for_channels(model: nn.Module, channels: int) -> nn.Module:
    """With another first convolution where it is of another number of channels."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != channels:
                _put(model, path, _with_channels(module, channels))
            break
    return model


def _with_channels(old: Any, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, bias=old.bias is not None
    )


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
