"""Which format a picture is in, how large its header says it is, and whether the file is all there.

Everything here reads a few bytes of the header, so that nothing is decoded, and no memory taken for it, before the
format is known to be allowed and the size to be within bounds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from asyncbatch.decoders._header import Header, PictureError, check_size
from asyncbatch.decoders._png import read_png_header

__all__ = ["DEFAULT_FORMATS", "FORMATS", "identify", "read_header"]

DEFAULT_FORMATS = ("jpeg", "png", "webp", "bmp")


_MAGIC: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("jpeg", rb"\xff\xd8\xff"),
        ("png", rb"\x89PNG\r\n\x1a\n"),
        ("webp", rb"RIFF.{4}WEBP"),
        ("bmp", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),  # two letters would match text: the header's length
        ("gif", rb"GIF8[79]a"),
        ("tiff", rb"II\*\0|MM\0\*"),
        ("jpeg2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        ("pnm", rb"P[1-6]\s"),
    )
)

_LOOKS_LIKE: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (what, re.compile(pattern, re.DOTALL | re.IGNORECASE))
    for what, pattern in (
        ("nothing but zero bytes, as an unfinished copy leaves them", rb"\0+\Z"),
        ("a Git LFS pointer: 'git lfs pull' gets the file itself", rb"version https://git-lfs"),
        ("an HTML page, perhaps a download's error page", rb"\s*<(!doctype html|html|head|body)"),
        ("SVG or XML", rb"\s*<(\?xml|svg)"),
        ("AVIF or HEIC", rb".{4}ftyp(avi|hei|hev|mif|msf)"),
        ("a video", rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI "),
        ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL "),
        ("OpenEXR", rb"v/1\x01"),
        ("Radiance HDR", rb"#\?(RADIANCE|RGBE)"),
        ("BigTIFF", rb"II\+\0|MM\0\+"),
        ("PSD", rb"8BPS"),
        ("PDF", rb"%PDF"),
        ("a NumPy array", rb"\x93NUMPY"),
        ("a zip archive, as .npz is", rb"PK\x03\x04"),
        ("gzip", rb"\x1f\x8b"),
        ("a tar archive", rb".{257}ustar"),
        ("text", rb"[\t\n\r\x20-\x7e]+\Z"),
    )
)


def identify(data: bytes, allowed: Sequence[str]) -> str:
    """Return the format that the first bytes say, whatever the file is called.

    Raises:
        PictureError: The file is empty, or its format is unknown or not in `allowed`.
    """
    for name, magic in _MAGIC:
        if magic.match(data):
            if name in allowed:
                return name
            raise PictureError(f"a {name} picture, which is not allowed here: add it with formats={(*allowed, name)}")
    if not data:
        raise PictureError("the file is empty")
    head = data[:512]
    for what, signature in _LOOKS_LIKE:
        if signature.match(head):
            raise PictureError(f"not a picture in one of the formats {', '.join(allowed)}: it looks like {what}")
    raise PictureError(f"not a picture in one of the formats {', '.join(allowed)}: it begins with {data[:8]!r}")


def read_header(data: bytes, name: str, max_pixels: int) -> Header:
    """Read the header of any format but JPEG, which has a module of its own, and check it against the file.

    Where no header tells how long the file is (GIF, TIFF, JPEG 2000, PNM and run-length BMP), OpenCV finds out by
    decoding: one that is cut off gives an error, never half a picture.

    Raises:
        PictureError: The header is damaged or says an unacceptable size, or the file is cut off.
    """
    try:
        header = FORMATS[name](data)
    except struct.error:
        raise PictureError(f"cut off: its {len(data)} bytes end inside the {name} header") from None
    check_size(header.height, header.width, max_pixels)
    if header.length > len(data):
        raise PictureError(f"cut off: it has {len(data)} bytes of at least {header.length} that the {name} must have")
    return header


def _webp(data: bytes) -> Header:
    length = 8 + struct.unpack_from("<I", data, 4)[0]
    kind = data[12:16]
    if kind == b"VP8X":  # extended: the canvas, less one, in 24 bits a side
        width, height = struct.unpack("<II", struct.pack("3sx3sx", data[24:27], data[27:30]))
        return Header(height + 1, width + 1, length)
    if kind == b"VP8L":  # lossless: less one, in 14 bits a side
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, length)
    if kind == b"VP8 ":  # lossy: 14 bits a side; the upper two are a display scale
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(height & 0x3FFF, width & 0x3FFF, length)
    raise PictureError(f"damaged: its first chunk is {kind!r}, which a WebP's cannot be")


def _bmp(data: bytes) -> Header:
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:  # OS/2
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
        height = abs(height)  # negative: the top row comes first
    plain = compression in (0, 3)  # rows of a known length, a multiple of four bytes
    return Header(height, width, start + (width * depth + 31) // 32 * 4 * height if plain else 0)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header(height, width)


def _tiff(data: bytes) -> Header:
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    sides: dict[int, int] = {}
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        if tag in (256, 257):  # ImageWidth and ImageLength, as 16 or 32 bits
            if tag in sides or count != 1 or kind not in (3, 4):
                raise PictureError("damaged: the TIFF says its size twice, or in an unknown way")
            (sides[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)
    if len(sides) < 2:
        raise PictureError("damaged: the TIFF does not say its size")
    return Header(sides[257], sides[256])


def _jpeg2000(data: bytes) -> Header:
    position = 0
    while not data.startswith(b"\xff\x4f\xff\x51", position):  # boxes come before the codestream
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        if kind != b"jp2c" and length < head:
            raise PictureError("damaged: the JPEG 2000 file has no codestream")
        position += head if kind == b"jp2c" else length
    right, bottom, left, top = struct.unpack_from(">IIII", data, position + 8)
    return Header(bottom - top, right - left)


def _pnm(data: bytes) -> Header:
    found = re.match(rb"P[1-6]\s+(\d{1,9})\s+(\d{1,9})\s", re.sub(rb"#[^\r\n]*", b"", data[:4096]))
    if not found:
        raise PictureError("damaged: the PNM header does not say a size")
    return Header(int(found[2]), int(found[1]))


FORMATS: dict[str, Callable[[bytes], Header]] = {
    "png": read_png_header,
    "webp": _webp,
    "bmp": _bmp,
    "gif": _gif,
    "tiff": _tiff,
    "jpeg2000": _jpeg2000,
    "pnm": _pnm,
}
"""The formats that OpenCV decodes from memory, each with the function that reads its header."""
