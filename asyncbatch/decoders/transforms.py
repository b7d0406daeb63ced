"""The transforms that most training runs need: `callable(image, rng) -> image`, for `ImageDecoder(transform=...)`.

Images are (H, W, C) uint8. Each draws from `rng` only, so that it does the same to a sample whichever thread and
whenever. Anything else is your own function, or a transform of albumentations or torchvision as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from asyncbatch._arguments import check_choice
from asyncbatch._errors import ConfigError
from asyncbatch._types import Array
from asyncbatch.decoders._checks import Size, as_size
from asyncbatch.decoders._draft import Part
from asyncbatch.decoders._opencv import INTERPOLATIONS

__all__ = ["CenterCrop", "RandomHorizontalFlip", "RandomResizedCrop", "Resize"]

_ATTEMPTS = 10


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random part, of random area and shape, and resize it: the usual training crop for ImageNet.

    The algorithm of torchvision's `RandomResizedCrop` (after Szegedy et al., "Going deeper with convolutions", 2014,
    section 6): draw area and shape until the part fits, ten times at most; then take the largest part from the middle
    whose shape is allowed.

    Args:
        size: (height, width) of the result in pixels; one number for a square.
        scale: Least and greatest area, as shares of the picture's. Default (0.08, 1), the paper's.
        ratio: Least and greatest width / height. Default (3/4, 4/3), the paper's.
        interpolation: How to resize: "nearest", "linear", "cubic", "area" or "lanczos".

    Raises:
        ConfigError: An argument cannot be used.
    """

    size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        as_size(self.size, "size")
        for name, bounds, most, example in (
            ("scale", self.scale, 1.0, "(0.08, 1)"),
            ("ratio", self.ratio, math.inf, "(3 / 4, 4 / 3)"),
        ):
            if not isinstance(bounds, Sequence) or len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
                raise ConfigError(f"{name} must be (least, greatest) above 0, got {bounds!r}; write {name}={example}")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, image: Array, rng: np.random.Generator) -> Array:
        """Return a random part, (height, width, C)."""
        return self.part(image.shape[0], image.shape[1], rng).cut(image, 1, self.interpolation)

    def part(self, height: int, width: int, rng: np.random.Generator) -> Part:
        """Draw which part of a (height, width) picture it will be."""
        return Part(*self._draw(height, width, rng), as_size(self.size, "size"))

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return top, left, height and width of a part of a (height, width) picture."""
        low, high = self.ratio
        for _ in range(_ATTEMPTS):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            part_width, part_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < part_width <= width and 0 < part_height <= height:
                top = int(rng.integers(height - part_height + 1))
                return top, int(rng.integers(width - part_width + 1)), part_height, part_width
        part_height = max(1, min(height, round(width / low)))
        part_width = max(1, min(width, round(height * high)))
        return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror left and right, sometimes.

    Args:
        p: How often, from 0 to 1.

    Raises:
        ConfigError: `p` is not between 0 and 1.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.p, (int, float)) or not 0 <= self.p <= 1:
            raise ConfigError(f"p must be between 0 and 1, got {self.p!r}; write RandomHorizontalFlip(p=0.5)")

    def __call__(self, image: Array, rng: np.random.Generator) -> Array:
        """Return the picture or its mirror image, (H, W, C)."""
        # Not image[:, ::-1]: copying such a view costs 198 µs at 224×224, cv2.flip 6.
        return cv2.flip(image, 1).reshape(image.shape) if rng.random() < self.p else image


@dataclass(frozen=True)
class CenterCrop:
    """Cut out the middle. A picture that is too small gets black around it, as with torchvision.

    Args:
        size: (height, width) of the result in pixels; one number for a square.

    Raises:
        ConfigError: `size` is no size.
    """

    size: Size

    def __post_init__(self) -> None:
        as_size(self.size, "size")

    def __call__(self, image: Array, rng: np.random.Generator) -> Array:
        """Return the middle, (height, width, C)."""
        height, width = as_size(self.size, "size")
        missing = [max(0, wanted - side) for wanted, side in zip((height, width), image.shape[:2], strict=True)]
        if any(missing):
            image = np.pad(image, [*((there // 2, there - there // 2) for there in missing), (0, 0)])
        top, left = (round((side - wanted) / 2) for side, wanted in zip(image.shape, (height, width), strict=False))
        return image[top : top + height, left : left + width]


@dataclass(frozen=True)
class Resize:
    """Resize the whole picture.

    Args:
        size: (height, width) in pixels; or one number for the shorter side, as with torchvision, and the longer keeps
            the picture's shape. (`ImageDecoder(image_size=224)` is a square: a batch needs one shape.)
        interpolation: "nearest", "linear", "cubic", "area" or "lanczos".

    Raises:
        ConfigError: An argument cannot be used.
    """

    size: Size
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        as_size(self.size, "size")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, image: Array, rng: np.random.Generator) -> Array:
        """Return the picture in its new size, (height, width, C)."""
        return self.part(image.shape[0], image.shape[1], rng).cut(image, 1, self.interpolation)

    def part(self, height: int, width: int, rng: np.random.Generator) -> Part:
        """Return the whole of a (height, width) picture, with the size that it will have."""
        size = as_size(self.size, "size")
        if not isinstance(self.size, Sequence):
            size = height * size[0] // min(height, width), width * size[1] // min(height, width)
        return Part(0, 0, height, width, size)
