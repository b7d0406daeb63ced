"""PNG: its chunks, and taking the animation out of an animated one."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from asyncbatch.decoders._header import Header, PictureError

__all__ = ["read_png_header", "still_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_HEADER = b"\0\0\0\rIHDR"  # how the first chunk begins, of 13 bytes
_SECOND = len(_SIGNATURE) + 25  # where the next one begins
_NO_PICTURE = "damaged: the PNG has no whole picture in it"
_CHUNK = struct.Struct(">I4s")  # length of the payload, kind
_SIZE = struct.Struct(">II")


def read_png_header(data: bytes) -> Header:
    """Read the size; and, by the chunks, whether the file is all there."""
    if data[12:16] != b"IHDR":
        raise PictureError("damaged: its first chunk is not IHDR, as a PNG's must be")
    width, height = _SIZE.unpack_from(data, 16)
    if data.endswith(b"IEND\xaeB`\x82"):
        return Header(height, width)
    # Either more bytes follow the last chunk, or it is missing: then the one that comes last goes beyond the end.
    return Header(height, width, max(stop for _, _, stop in _chunks(data)))


def still_png(data: bytes) -> bytes:
    """Return a PNG that OpenCV can be trusted with: one without animation, and with every chunk inside of the file.

    OpenCV 4.12 and 5.0 decode animated PNG in a way of their own, which writes where the file says and jumps into a
    stack frame that is gone when libpng finds an error: damaged files crash the process. Without its animation the file
    is an ordinary PNG. And they allocate what any chunk up to the picture says it has, 4 GB if it likes.

    What is left of an animated PNG is its default image: the first frame, unless the file keeps that one apart.

    Raises:
        PictureError: A chunk goes beyond the end of the file, or there is no picture.
    """
    if data.startswith(_HEADER, len(_SIGNATURE)) and data.startswith(b"IDAT", _SECOND + 4):  # as in most
        if _SECOND + 12 + int.from_bytes(data[_SECOND : _SECOND + 4]) > len(data):
            raise PictureError(_NO_PICTURE)
        return data
    for kind, _, stop in _chunks(data):
        if kind == b"IEND" or stop > len(data):
            raise PictureError(_NO_PICTURE)
        if kind == b"IDAT":
            return data
        if kind in _ANIMATION:
            break
    still = (data[start:stop] for kind, start, stop in _chunks(data) if kind not in _ANIMATION)
    return still_png(_SIGNATURE + b"".join(still))  # to look at its other chunks too


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and stop of every chunk up to IEND; the last one may go beyond the end of the file."""
    kind, stop = b"", len(_SIGNATURE)
    while kind != b"IEND" and stop <= len(data):
        start = stop
        length, kind = _CHUNK.unpack_from(data, start) if start + 8 <= len(data) else (0, b"")
        stop = start + 12 + length
        yield kind, start, stop
