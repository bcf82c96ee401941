"""Image files: the one place where they are decoded, for comparisons and for censuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undying._base.errors import UndyingError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
TO_ONE_SIZE = "bring all to one size with --image-size"
_DEEP = ("I", "F")
"""Pillow's modes of one channel with more than 8 bits, and the beginnings of their names (``I;16B``)."""
_SIXTEEN = 65535.0


class UnreadableError(UndyingError):
    """A file is no image, or is damaged."""

    def __init__(self, file: object, error: Exception) -> None:
        self.reason = " ".join(str(error).split()) or type(error).__name__
        super().__init__(f"{file} cannot be read as an image, it is truncated or damaged: {self.reason}")


@dataclass(frozen=True)
class Picture:
    """A decoded image: as the camera was held, and on white where it was transparent."""

    name: object
    """Its file, for messages."""
    image: Any
    """Pillow's, in its own mode."""
    sixteen: bool = False
    """Whether its mode is one of more than 8 bits, and white is 65535."""

    def converted(self, mode: str) -> Any:
        """Pillow's image in ``mode``.

        Raises:
            UnreadableError: it has no such form.
        """
        try:
            return self.image.convert(mode)
        except ValueError as error:
            raise UnreadableError(self.name, error) from None

    def in_unit_range(self, mode: str, size: int = 0) -> Tensor:
        """float32 (C, H, W) from 0 to 1: 8 bits over 255 and 16 bits over 65535.

        Raises:
            UndyingError: nothing says which value is white, or it has no such form.
        """
        if not is_deep(self.image.mode):
            return array(fitted(self.converted(mode), size)).float() / 255
        grey = array(fitted(self._of_sixteen_bits(), size)) / _SIXTEEN
        return grey if mode == "L" else grey.expand(3, -1, -1)

    def in_eight_bits(self) -> Any:
        """Pillow's image in RGB, which networks of torchvision and timm take; 16 bits are scaled to 8.

        Raises:
            UndyingError: as :meth:`in_unit_range`.
        """
        from PIL import Image

        if not is_deep(self.image.mode):
            return self.converted("RGB")
        grey = np.array(self._of_sixteen_bits()) * (255 / _SIXTEEN)
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")

    def _of_sixteen_bits(self) -> Any:
        if not self.sixteen:
            kind = "floating point" if self.image.mode == "F" else "32-bit"
            raise UndyingError(
                f"{self.name} has {kind} pixels, and nothing says which value is white; bring it to 8 or 16 bits, or give "
                "--preprocess compare, which needs no range"
            )
        return self.image.convert("F")


def opened(file: Path) -> Picture:
    """The image in ``file``.

    Raises:
        UnreadableError: there is none.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            # Before Pillow 11 a PNG of 16 bits has the mode of 32; a PGM has it to this day, and is scaled to 16.
            sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
            upright = ImageOps.exif_transpose(image)
            upright.load()
            return Picture(file, _opaque(upright), sixteen)
    except Exception as error:  # Pillow's own, and others by format
        raise UnreadableError(file, error) from None


def mode_of(file: Path) -> str:
    """Pillow's name for what a pixel of the image is, from the head of the file.

    Raises:
        UnreadableError: it has none.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return str(image.mode)
    except Exception as error:  # the same
        raise UnreadableError(file, error) from None


def is_deep(mode: str) -> bool:
    """Whether a pixel is one number of more than 8 bits."""
    return mode.startswith(_DEEP)


def common_mode(modes: Iterable[str]) -> str:
    """Grey if all images are grey, else RGB."""
    return "L" if all(mode == "L" or is_deep(mode) for mode in modes) else "RGB"


def unreadable(files: Sequence[Path]) -> dict[Path, str]:
    """Those that cannot be decoded to their end, and why."""
    found = {}
    for file in files:
        try:
            opened(file)
        except UnreadableError as error:
            found[file] = error.reason
    return found


def fitted(image: Any, size: int) -> Any:
    """With its shorter side scaled to ``size`` and the middle square kept; as it is for 0."""
    from PIL import Image

    if not size:
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))


def array(image: Any) -> Tensor:
    """(C, H, W), uint8 or float32."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def same_size(image: Tensor, file: object, first: Tensor, of: object, way_out: str = TO_ONE_SIZE) -> None:
    """Raises UndyingError unless both images have one shape, (C, H, W)."""
    if image.shape != first.shape:
        raise UndyingError(
            f"{file} is {image.shape[2]}x{image.shape[1]} and {of} {first.shape[2]}x{first.shape[1]}; {way_out}"
        )


def _opaque(image: Any) -> Any:
    """On white where it is transparent: the colours there are whatever the program left, often black. Pillow would clip
    more than 8 bits on the way, so one of these that is noted as transparent keeps its values."""
    from PIL import Image

    if not image.has_transparency_data or is_deep(image.mode):
        return image
    drawn = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
