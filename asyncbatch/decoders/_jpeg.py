"""JPEG: its header, its pixels by libjpeg-turbo (simplejpeg), and telling cut-off files from odd ones.

simplejpeg gives OpenCV's pixels bit for bit, CMYK and progressive included, and in its strict mode refuses every file
that libjpeg so much as warns about. Such a file is one of three:

- cut off: no end-of-image marker follows the start of the picture's data. An error.
- damaged: libjpeg says that picture data are missing or make no sense. An error.
- odd: anything else, such as bytes to spare before a marker or an unknown JFIF version. Every pixel is there, and it
  is decoded like any other; real data sets have such files.

libjpeg reports only its first complaint, so an odd file that is damaged too passes as odd, as it does in OpenCV;
never one that is cut off, as that is found without libjpeg.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from asyncbatch._types import Array
from asyncbatch.decoders._draft import scaled
from asyncbatch.decoders._exif import find_orientation
from asyncbatch.decoders._header import PictureError
from asyncbatch.decoders._opencv import decode_by_opencv, resize

__all__ = ["JpegHeader", "decode_jpeg", "read_jpeg_header"]

_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the others of the row are DHT, JPG and DAC
_FILL = 0xFF  # before a marker
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD8), _FILL))  # no marker, TEM and RST0–7: nothing follows them

_DAMAGE = ("premature end", "bad Huffman code", "bad arithmetic code", "instead of RST")  # libjpeg-turbo's jerror.h


class JpegHeader(NamedTuple):
    """The size as stored, before it is turned upright; the EXIF orientation; where the picture's data begin."""

    height: int
    width: int
    orientation: int
    scan: int

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width once it is turned upright."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read everything before the picture's data.

    Raises:
        PictureError: The header is damaged or ends early.
    """
    size, orientation = None, None
    # One loop, and not a generator of segments: this is Python, which decode threads take turns for.
    marker, position, end = 0, 2, len(data)
    while marker != _SOS:
        position = data.find(b"\xff", position) + 1  # skips stray bytes as libjpeg does
        if position == 0 or position + 2 >= end:
            raise _cut_off(data)
        marker = data[position]
        if marker in _ALONE:
            position += marker != _FILL
            continue
        start, length = position + 3, data[position + 1] << 8 | data[position + 2]
        position += 1 + length
        if marker == _EOI or length < 2:
            raise PictureError("damaged: the JPEG has no picture in it")
        if position > end:
            raise _cut_off(data)
        if marker in _SOF:
            if size is not None or length < 8:
                raise PictureError("damaged: the JPEG says its size twice or not at all")
            size = (data[start + 1] << 8 | data[start + 2], data[start + 3] << 8 | data[start + 4])
        elif marker == _APP1 and orientation is None and data.startswith(b"Exif\0\0", start, position):
            orientation = find_orientation(data[start + 6 : position])
    if size is None:
        raise PictureError("damaged: the JPEG does not say its size")
    return JpegHeader(*size, orientation or 1, position)


def _cut_off(data: bytes) -> PictureError:
    return PictureError(f"cut off: its {len(data)} bytes end inside the JPEG header")


def decode_jpeg(
    data: bytes, header: JpegHeader, colour: str, out: Array | None = None, scale: int = 1
) -> tuple[Array, bool]:
    """Decode a JPEG as it is stored.

    Args:
        data: The file.
        header: What `read_jpeg_header` made of it.
        colour: "RGB", "BGR" or "GRAY".
        out: Where to put the pixels, (H, W, C) uint8 and contiguous; None for a new array.
        scale: What height and width are divided by, rounding up: 1, 2, 4 or 8.

    Returns:
        `out` or a new array, (H, W, C) uint8; and whether the file was odd.

    Raises:
        PictureError: The file is cut off or damaged.
    """
    height, width = scaled(header.height, header.width, scale)
    least = {} if scale == 1 else {"min_height": height, "min_width": width}
    try:
        image = simplejpeg.decode_jpeg(data, colour, buffer=out, **least)
        return image if out is None else out, False
    except ValueError as refusal:
        complaint = str(refusal)
    if data.find(b"\xff\xd9", header.scan) < 0:
        raise PictureError(f"cut off: the JPEG has no end within its {len(data)} bytes")
    if any(damage in complaint for damage in _DAMAGE):
        raise PictureError(f"damaged: libjpeg says {complaint!r}")
    if complaint.endswith("extraneous bytes before marker 0xd9"):  # found at the end, so nothing else is amiss
        image = simplejpeg.decode_jpeg(data, colour, strict=False, **least)
    else:  # a strange header, or uncommon subsampling; if it is broken, simplejpeg would now return what it has
        try:
            image = decode_by_opencv(data, colour, cv2.IMREAD_IGNORE_ORIENTATION)
        except PictureError:
            raise PictureError(f"cannot be decoded: libjpeg says {complaint!r}") from None
        if scale > 1:
            image = resize(image, (height, width), "area")
    if out is None:
        return image, True
    np.copyto(out, image)
    return out, True
