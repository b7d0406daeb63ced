"""Pixels by OpenCV, for every format but JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from asyncbatch._types import Array
from asyncbatch.decoders._header import PictureError

__all__ = ["INTERPOLATIONS", "decode_by_opencv", "resize"]

INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}

_FLAGS = {"RGB": cv2.IMREAD_COLOR_RGB, "BGR": cv2.IMREAD_COLOR, "GRAY": cv2.IMREAD_GRAYSCALE}


def decode_by_opencv(data: bytes, colour: str, flags: int = 0) -> Array:
    """Decode what `cv2.imread` would, in the colours asked for, turned upright unless the flags say otherwise.

    Returns:
        (H, W, 3) uint8, or (H, W, 1) for "GRAY".

    Raises:
        PictureError: OpenCV answers with None or with an error of its own; it does either.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[colour] | flags)
    except cv2.error as refusal:
        raise PictureError(f"damaged or cut off: OpenCV says {str(refusal).strip()!r}") from None
    if image is None:
        raise PictureError("damaged or cut off: OpenCV cannot decode it")
    return image if image.ndim == 3 else image[..., None]  # OpenCV has no axis for a single channel


def resize(image: Array, size: tuple[int, ...], interpolation: str, out: Array | None = None) -> Array:
    """Resize (H, W, C) to (*size, C), into `out` if it is given, which must then be contiguous."""
    resized = cv2.resize(image, (size[1], size[0]), dst=out, interpolation=INTERPOLATIONS[interpolation])
    return resized.reshape(*size, image.shape[2])  # OpenCV drops the axis of a single channel
