"""What a network is counted on: a data set, a folder of images, batches of the user's own or random numbers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from undying._base import imports
from undying._base.errors import UndyingError
from undying.certify.box import Box
from undying.lab import data
from undying.lab.data.dataset import Dataset
from undying.lab.data.folder import folder, listing
from undying.lab.data.images import Picture, UnreadableError, common_mode, mode_of, opened, same_size, unreadable
from undying.lab.data.imported import imported
from undying.probe.preprocess import COMPARE, Preprocessing, preprocessing

_RANDOM = "random:"
_SPLITS = ("all", "train", "test")

T = TypeVar("T")


@dataclass(frozen=True)
class ProbeOptions:
    """What to count on."""

    data: str = "digits"
    """What to count on: a data set as in compare; a folder of images, in folders of classes or not; random:256,3,64,64
    (normally distributed numbers); or package.module:function, which takes no arguments and returns batches for
    undying.census."""
    split: str = "all"
    """Part of the data to count on: all, train or test. Of a folder without such parts a hash chooses, as in compare."""
    limit: int = 0
    """Largest number of samples, spread evenly over the data; 0: all."""
    batch_size: int = 256
    """Samples in a batch."""
    preprocess: str = ""
    """How images are preprocessed, as in the training of the checkpoint: imagenet; torchvision or timm, the transforms that the
    library has for the network; mean,std of pixels from 0 to 1, or three of each; package.module:function of an image; or
    compare, mean and standard deviation of the training data, as compare does. Default: for a folder of images and a network
    of torchvision or timm the library's, else compare."""
    image_size: int = 0
    """Bring a folder's images to this many pixels a side; 0: as --preprocess says, or as they are, all of one size."""
    skip_unreadable: bool = False
    """Leave out the files of a folder that cannot be read as images, and say which. Without it they are an error."""

    def check(self) -> None:
        """Raises UndyingError for what can be no choice, whatever the data."""
        if not (0 <= self.limit < 2**31 and 1 <= self.batch_size < 2**31):
            raise UndyingError(
                f"--limit must be at least 0, --batch-size 1, both below 2**31, not {self.limit} and {self.batch_size}"
            )
        if not 0 <= self.image_size < 2**15:
            raise UndyingError(f"--image-size is a number of pixels, at least 0 and below 2**15, not {self.image_size}")
        if self.split not in _SPLITS:
            raise UndyingError(f"--split must be one of {', '.join(_SPLITS)}, not {self.split!r}")

    def refuse(self, why: str, *names: str) -> None:
        """Raises UndyingError where one of these options is given, and would go unheard."""
        for field in fields(self):
            if field.name in names and getattr(self, field.name) != field.default:
                option = field.name.replace("_", "-")
                raise UndyingError(f"--{option} does not go with --data {self.data}, which {why}")


@dataclass(frozen=True)
class Probe:
    """Batches, and what is known of them."""

    batches: Iterable[Any]
    source: str
    """Where they come from, in words."""
    shape: tuple[int, ...] | None = None
    """Of one sample; None where that is not known."""
    classes: int | None = None
    labelled: bool = True
    """Whether there may be labels."""
    preprocessing: str | None = None
    """In words; None where it is none of ours."""
    scale: tuple[Sequence[float], Sequence[float], tuple[float, float]] | None = None
    """Means, standard deviations, and the least and largest pixel, of images that are normalized by numbers."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """Files that were left out, each with the reason."""
    passed_over: tuple[str, ...] = ()
    """What else lies in the folder, in words."""
    length: int | None = None
    """How many batches; None where that is not known."""

    def box(self) -> Box:
        """Of all images that the preprocessing can give.

        Raises:
            UndyingError: it does not say in which range they are.
        """
        if self.scale is None or self.shape is None:
            raise UndyingError(
                "--certify needs images whose preprocessing says what range they are in: --preprocess imagenet, torchvision, "
                "timm, numbers, or compare with images of bytes"
            )
        mean, std, pixels = self.scale
        return Box.from_preprocessing(mean, std, self.shape[1:], pixels=pixels, channels=self.shape[0])


def probe(options: ProbeOptions, model: str) -> Probe:
    """The data that ``options`` choose, for a network as ``--model`` has it.

    Raises:
        UndyingError: they cannot be read, there are none, or an option does not go with them.
    """
    options.check()
    kind = None if options.data.startswith(_RANDOM) else data.source(options.data)
    if kind is None or kind is imported:
        options.refuse("is taken as it is", "split", "limit", "preprocess", "image_size", "skip_unreadable")
        return _random(options) if kind is None else _imported(options)
    if kind is not folder:
        options.refuse("is no folder of images", "image_size", "skip_unreadable")
    spec = options.preprocess or ("" if kind is folder else COMPARE)
    made = preprocessing(spec, model, options.image_size)
    with _advising():
        if made is None:
            return _as_compare_does(options)
        return _of_folder(options, made) if kind is folder else _of_arrays(options, made)


@contextlib.contextmanager
def _advising() -> Iterator[None]:
    try:
        yield
    except UnreadableError as error:
        raise UndyingError(f"{error}; --skip-unreadable leaves such files out") from None


def _imported(options: ProbeOptions) -> Probe:
    batches = imports.call(options.data, "data")
    with contextlib.suppress(TypeError):
        return Probe(batches, options.data, length=len(batches))
    return Probe(batches, options.data)


def _random(options: ProbeOptions) -> Probe:
    batches = torch.randn(_shape(options.data)).split(options.batch_size)
    return Probe(batches, options.data, tuple(batches[0].shape[1:]), labelled=False, length=len(batches))


def _as_compare_does(options: ProbeOptions) -> Probe:
    images = data.source(options.data) is folder
    if images:
        found = folder(Path(options.data), options.image_size, options.split == "all", options.skip_unreadable)
    else:
        found = data.load(options.data)
    x, y, source = _part(found, options)
    mean, std = (each.flatten().tolist() for each in found.scale)
    return Probe(
        zip(found.standardised(x).split(options.batch_size), y.split(options.batch_size), strict=True),
        source,
        found.shape,
        found.classes,
        bool(found.names) or not images,
        f"as compare does, by mean {_few(mean)} and std {_few(std)} of the training data",
        (mean, std, (0.0, 255.0)) if len(found.shape) == 3 and x.dtype == torch.uint8 else None,
        found.unreadable,
        tuple(listing(Path(options.data)).passed_over()) if images else (),
        math.ceil(len(x) / options.batch_size),
    )


def _part(found: Dataset, options: ProbeOptions) -> tuple[Tensor, Tensor, str]:
    """Samples, labels, and which they are, in words."""
    if options.split == "train":
        x, y = found.x_train, found.y_train
    elif options.split == "test" or found.whole:
        x, y = found.x_test, found.y_test
    else:
        x, y = torch.cat([found.x_train, found.x_test]), torch.cat([found.y_train, found.y_test])
    there = len(x)
    chosen = list(_spread(range(there), options.limit))
    if len(chosen) < there:
        x, y = x[chosen], y[chosen]
    return x, y, _words(options, len(chosen), there)


def _of_folder(options: ProbeOptions, made: Preprocessing) -> Probe:
    found = listing(Path(options.data))
    bad = unreadable([file for file, _ in found.all]) if options.skip_unreadable else {}
    kept = found.without(bad.keys())
    files = {"all": kept.all, "train": kept.train, "test": kept.test}[options.split]
    if not files:
        part = "" if options.split == "all" else f" for --split {options.split}"
        raise UndyingError(f"{options.data} holds no images that can be read{part}")
    mode = common_mode([mode_of(file) for file, _ in files])
    chosen = _spread(files, options.limit)
    first = made.apply(opened(chosen[0][0]), mode)
    return Probe(
        _batches_of(chosen, made, mode, options.batch_size),
        _words(options, len(chosen), len(files)),
        tuple(first.shape),
        max(1, len(found.names)),
        bool(found.names),
        made.said,
        _scale(made),
        tuple((str(file), reason) for file, reason in bad.items()),
        tuple(found.passed_over()),
        math.ceil(len(chosen) / options.batch_size),
    )


def _batches_of(
    files: Sequence[tuple[Path, int]], made: Preprocessing, mode: str, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decoded as they are asked for, so that a folder may be larger than the memory."""
    first: Tensor | None = None
    for start in range(0, len(files), size):
        images = []
        for file, _ in files[start : start + size]:
            with _advising():
                image = made.apply(opened(file), mode)
            first = image if first is None else first
            same_size(image, file, first, files[0][0], made.to_one_size)
            images.append(image)
        yield torch.stack(images), torch.tensor([label for _, label in files[start : start + size]])


def _of_arrays(options: ProbeOptions, made: Preprocessing) -> Probe:
    from PIL import Image

    found = data.load(options.data)
    x, y, source = _part(found, options)
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] not in (1, 3):
        raise UndyingError(
            f"--preprocess {options.preprocess} is for images of bytes in 1 or 3 channels, and the samples of {options.data} "
            f"are {x.dtype} {found.shape}; --preprocess compare takes them"
        )

    def applied(image: Tensor) -> Tensor:
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        return made.apply(
            Picture(options.data, Image.fromarray(pixels.contiguous().numpy())), "L" if len(image) == 1 else "RGB"
        )

    batches = (
        (torch.stack([applied(image) for image in images]), labels)
        for images, labels in zip(x.split(options.batch_size), y.split(options.batch_size), strict=True)
    )
    shape = tuple(applied(x[0]).shape)
    length = math.ceil(len(x) / options.batch_size)
    return Probe(batches, source, shape, found.classes, True, made.said, _scale(made), length=length)


def _scale(made: Preprocessing) -> tuple[Sequence[float], Sequence[float], tuple[float, float]] | None:
    return None if made.mean is None or made.std is None else (made.mean, made.std, (0.0, 1.0))


def _spread(items: Sequence[T], limit: int) -> Sequence[T]:
    """``limit`` of the items, evenly over them all.

    >>> _spread(range(10), 4)
    [0, 2, 5, 7]
    """
    if not 0 < limit < len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def _words(options: ProbeOptions, chosen: int, there: int) -> str:
    part = "all of" if options.split == "all" else f"the {'training' if options.split == 'train' else 'test'} part of"
    return f"{part} {options.data}" if chosen == there else f"{chosen} of the {there} in {part} {options.data}"


def _few(numbers: Sequence[float]) -> str:
    """
    >>> _few([1.0, 2.0]), _few(list(range(9)))
    ('1, 2', '0, 1, 2, ...')
    """
    shown = ", ".join(f"{number:.4g}" for number in numbers[:3])
    return shown if len(numbers) <= 3 else f"{shown}, ..."


def _shape(spec: str) -> list[int]:
    try:
        sizes = [int(size) for size in spec.removeprefix(_RANDOM).split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or math.prod(sizes) >= 2**40:
        raise UndyingError(
            f"--data {spec!r} must be random: and a shape that fits in memory, such as random:256,3,64,64"
        )
    return sizes
