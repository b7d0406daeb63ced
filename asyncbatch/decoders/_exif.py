"""EXIF orientation: which way up the camera was held, and turning the picture upright.

JPEG only: the decoder used for it knows no EXIF. For the other formats OpenCV turns the picture itself.
"""

from __future__ import annotations

import struct

import cv2

from asyncbatch._types import Array

__all__ = ["find_orientation", "upright"]

_TEXT = (0x010E, 0x010F, 0x0110)  # ImageDescription, Make, Model: the tags that come before Orientation
_ORIENTATION = 0x0112


def find_orientation(tiff: bytes) -> int | None:
    """Return the first orientation tag of an EXIF block, or None if there is none or the block is damaged.

    Agrees with OpenCV on damaged blocks too (modules/imgcodecs/src/exif.cpp): the tag's type is not looked at, and a
    text that points outside of the block ends the search.

    Args:
        tiff: The block, beginning with its byte order.
    """
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        magic, directory = struct.unpack_from(order + "HI", tiff, 2)
        if magic != 0x2A:
            return None
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            (tag,) = struct.unpack_from(order + "H", tiff, at)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + "H", tiff, at + 8)
                return int(value)
            if tag in _TEXT:
                length, start = struct.unpack_from(order + "II", tiff, at + 4)
                if length > 4 and start + length > len(tiff):
                    return None
    except struct.error:  # an offset points outside of the block
        return None
    return None


def upright(image: Array, orientation: int) -> Array:
    """Turn a picture upright, (H, W, C) → (H, W, C), or (W, H, C) for orientations 5 to 8 (EXIF 2.3, 4.6.4 A)."""
    channels = image.shape[2]
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    if axis is not None:
        image = cv2.flip(image, axis)
    return image.reshape(*image.shape[:2], channels)  # OpenCV drops the axis of a single channel
