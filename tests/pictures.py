"""Small pictures of every kind that a data set may hold, as the bytes of their files: `KINDS[name]()`.

All show the same seeded pattern, 47 × 61 (height × width) unless said otherwise. Names begin with the format.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 47, 61

DEFAULT_FORMATS = ("jpeg", "png", "webp", "bmp")
ALL_FORMATS = (*DEFAULT_FORMATS, "gif", "tiff", "jpeg2000", "pnm")


@cache
def pattern(height: int = HEIGHT, width: int = WIDTH, channels: int = 4, seed: int = 0):
    """Return soft colours with some noise on them, (height, width, channels) uint8; with four, the last is alpha."""
    rng = np.random.default_rng(seed)
    soft = cv2.resize(rng.uniform(0, 255, (6, 8, channels)), (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = soft.reshape(height, width, channels) + rng.normal(0, 8, (height, width, channels))
    pixels = noisy.clip(0, 255).astype(np.uint8)
    pixels.flags.writeable = False  # it is kept for the next caller
    return pixels


def rgb():
    return np.ascontiguousarray(pattern()[..., :3])


def encode(extension: str, image, *parameters: int) -> bytes:
    """Encode by OpenCV, which takes the colours as blue, green, red."""
    done, data = cv2.imencode(extension, image, parameters)
    assert done
    return data.tobytes()


def pillow(form: str, mode: str = "RGB", image=None, **options) -> bytes:
    """Encode by Pillow."""
    source = Image.fromarray(pattern() if image is None else image)
    picture = source.convert(mode) if mode.endswith("A") else source.convert("RGB").convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def animated(form: str, channels: int = 3, **options) -> bytes:
    """Encode three frames, of which the first is the usual pattern."""
    first = np.ascontiguousarray(pattern()[..., :channels])
    frames = [Image.fromarray(frame) for frame in (first, first[::-1].copy(), 255 - first)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=100, **options)
    return buffer.getvalue()


def exif(orientation: int, order: bytes = b"II", **changes: int) -> bytes:
    """Return an EXIF block of a make and an orientation; `changes` replace numbers in it."""
    number = {"magic": 42, "directory": 8, "entries": 2, "make_length": 6, "make_at": 38} | changes
    mark = "<" if order == b"II" else ">"
    return b"".join((
        order,
        struct.pack(mark + "HIH", number["magic"], number["directory"], number["entries"]),
        struct.pack(mark + "HHII", 0x010F, 2, number["make_length"], number["make_at"]),
        struct.pack(mark + "HHIHH", 0x0112, 3, 1, orientation, 0),
        bytes(4),
        b"Maker\0",
    ))  # fmt: skip


def jpeg_with_exif(block: bytes, data: bytes | None = None) -> bytes:
    """Put an EXIF block into a JPEG."""
    data = pillow("JPEG") if data is None else data
    segment = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def jpeg_segments(data: bytes) -> list[bytes]:
    """Cut a JPEG into SOI, its header's segments and the rest from the start of scan."""
    pieces, at = [data[:2]], 2
    while data[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        pieces.append(data[at:stop])
        at = stop
    return [*pieces, data[at:]]


def jpeg_without_tables() -> bytes:
    """Return a JPEG as video frames have it, without the Huffman tables that everybody knows."""
    return b"".join(piece for piece in jpeg_segments(pillow("JPEG")) if not piece.startswith(b"\xff\xc4"))


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_chunks(data: bytes) -> list[bytes]:
    """Cut a PNG into its signature and its chunks."""
    pieces, at = [data[:8]], 8
    while at < len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
        pieces.append(data[at:stop])
        at = stop
    return pieces


def png_interlaced() -> bytes:
    """Write a PNG in the seven passes of Adam7."""
    image, rows = rgb(), b""
    for top, left, down, right in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1),
    ):  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in image[top::down, left::right])
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_late_exif(orientation: int) -> bytes:
    """Return a PNG whose EXIF comes after the picture."""
    signature, *chunks = png_chunks(pillow("PNG"))
    return signature + b"".join((*chunks[:-1], png_chunk(b"eXIf", exif(orientation)), chunks[-1]))


def png_16_bit(channels: int) -> bytes:
    coarse = pattern()[..., :channels].astype(np.uint16)
    fine = pattern(seed=1)[..., :channels]
    return encode(".png", coarse * 256 + fine)


def png_2_bits() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb()).quantize(4).save(buffer, "PNG", bits=2)
    return buffer.getvalue()


def bmp_top_down() -> bytes:
    data = bytearray(pillow("BMP"))
    data[22:26] = struct.pack("<i", -HEIGHT)
    return bytes(data)


def bmp_os2() -> bytes:
    """Return a BMP with the short header of OS/2."""
    pixels = pillow("BMP")[54:]
    return struct.pack("<2sIHHIIHHHH", b"BM", 26 + len(pixels), 0, 0, 26, 12, WIDTH, HEIGHT, 1, 24) + pixels


def bmp_run_length() -> bytes:
    """Return a BMP of 4 × 8 pixels in runs."""
    palette = bytes(range(256)) * 4
    runs = b"".join(bytes([3, row * 20, 5, 100 + row, 0, 0]) for row in range(4)) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 8, 4, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", 14 + 40 + 1024 + len(runs), 0, 0, 14 + 40 + 1024) + head + palette + runs


# By `cjpeg -sample 3x1 -quality 50 -optimize` and `cjpeg -arithmetic -quality 50`, of a pattern of 9 × 17 pixels:
# nothing that can be had from PyPI writes these.
_UNCOMMON_SUBSAMPLING = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk
eFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAAJABED
ATEAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABQYC/8QAJhAAAQMCAgsAAAAAAAAAAAAAAQACAwQFERIWITI1QUJUcZGy0f/EABcBAAMBAAAA
AAAAAAAAAAAAAAECAwT/xAAiEQABAgQHAQAAAAAAAAAAAAABAAIDBBFxBRITMjNhsfD/2gAMAwEAAhEDEQA/ABrTQ7OpWFvp2Qx55CGtAxJPALGk
tD01R4b9Sx36dABUn7tUloLph+RpQ1p5Uxd9zzdme4U8hM8osfQtmDb3WX//2Q=="""
_ARITHMETIC = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk
eFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/yQARCAAJABED
ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AD443qW8RjCyC/MzL5ASS2RXLV9yiOl9+Xoss/nkjc3Bbm3E/Nd2/Nkpc8azpKPN
zfEwlG7DmV9/pTLF6k2P+zwrgqvsRa3fWdUM5xme07aLzchEOSgoL7j0/9k="""


def _kinds() -> dict[str, Callable[[], bytes]]:
    kinds: dict[str, Callable[[], bytes]] = {}
    for sampling in ("411", "420", "422", "440", "444"):
        flag = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
        kinds[f"jpeg {sampling}"] = partial(encode, ".jpg", rgb(), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, flag)
    for height, width in ((1, 1), (1, 40), (40, 1), (7, 13), (8, 8), (16, 17), (33, 64)):
        kinds[f"jpeg {height} × {width}"] = partial(encode, ".jpg", pattern(height, width, 3))
    return kinds | {
        "jpeg progressive": partial(encode, ".jpg", rgb(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "jpeg restart markers": partial(encode, ".jpg", rgb(), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        "jpeg quality 100": partial(encode, ".jpg", rgb(), cv2.IMWRITE_JPEG_QUALITY, 100),
        "jpeg grey": partial(pillow, "JPEG", "L"),
        "jpeg grey progressive": partial(pillow, "JPEG", "L", progressive=True),
        "jpeg rgb": partial(pillow, "JPEG", keep_rgb=True),
        "jpeg cmyk": partial(pillow, "JPEG", "CMYK"),
        "jpeg cmyk progressive": partial(pillow, "JPEG", "CMYK", progressive=True),
        "jpeg without tables": jpeg_without_tables,
        "jpeg uncommon subsampling": partial(base64.b64decode, _UNCOMMON_SUBSAMPLING),
        "jpeg arithmetic": partial(base64.b64decode, _ARITHMETIC),
        "jpeg orientation 6": partial(pillow, "JPEG", exif=b"Exif\0\0" + exif(6)),
        "png": partial(pillow, "PNG"),
        "png alpha": partial(pillow, "PNG", "RGBA"),
        "png grey": partial(pillow, "PNG", "L"),
        "png grey alpha": partial(pillow, "PNG", "LA"),
        "png palette": partial(pillow, "PNG", "P"),
        "png palette transparent": partial(pillow, "PNG", "P", transparency=3),
        "png transparent colour": partial(pillow, "PNG", transparency=tuple(int(c) for c in rgb()[0, 0])),
        "png 1 bit": partial(pillow, "PNG", "1"),
        "png 2 bits": png_2_bits,
        "png 16 bits": partial(png_16_bit, 3),
        "png 16 bits alpha": partial(png_16_bit, 4),
        "png 16 bits grey": partial(png_16_bit, 1),
        "png interlaced": png_interlaced,
        "png animated": partial(animated, "PNG"),
        "png animated alpha": partial(animated, "PNG", 4),
        "png orientation 6": partial(pillow, "PNG", exif=exif(6)),
        "png late orientation 6": partial(png_late_exif, 6),
        "webp": partial(pillow, "WEBP"),
        "webp lossless": partial(pillow, "WEBP", lossless=True),
        "webp alpha": partial(pillow, "WEBP", "RGBA"),
        "webp grey": partial(pillow, "WEBP", "L"),
        "webp animated": partial(animated, "WEBP"),
        "webp orientation 6": partial(pillow, "WEBP", exif=exif(6)),
        "bmp": partial(pillow, "BMP"),
        "bmp alpha": partial(encode, ".bmp", pattern()),
        "bmp grey": partial(pillow, "BMP", "L"),
        "bmp palette": partial(pillow, "BMP", "P"),
        "bmp 1 bit": partial(pillow, "BMP", "1"),
        "bmp top down": bmp_top_down,
        "bmp os/2": bmp_os2,
        "bmp run length": bmp_run_length,
        "gif": partial(pillow, "GIF"),
        "gif transparent": partial(pillow, "GIF", "P", transparency=3),
        "gif animated": partial(animated, "GIF"),
        "tiff": partial(pillow, "TIFF"),
        "tiff lzw": partial(pillow, "TIFF", compression="tiff_lzw"),
        "tiff alpha": partial(pillow, "TIFF", "RGBA"),
        "tiff grey": partial(pillow, "TIFF", "L"),
        "tiff palette": partial(pillow, "TIFF", "P"),
        "tiff cmyk": partial(pillow, "TIFF", "CMYK"),
        "tiff 16 bits": partial(encode, ".tiff", rgb().astype(np.uint16) * 257),
        "tiff big-endian": partial(pillow, "TIFF", big_endian=True),
        "tiff animated": partial(animated, "TIFF"),
        "jpeg2000": partial(pillow, "JPEG2000"),
        "jpeg2000 codestream": partial(pillow, "JPEG2000", no_jp2=True),
        "jpeg2000 grey": partial(pillow, "JPEG2000", "L"),
        "jpeg2000 alpha": partial(pillow, "JPEG2000", "RGBA"),
        "pnm": partial(pillow, "PPM"),
        "pnm grey": partial(pillow, "PPM", "L"),
        "pnm 1 bit": partial(pillow, "PPM", "1"),
        "pnm as text": lambda: b"P3\n# two by one\n2 1\n255\n1 2 3 4 5 6\n",
    }


KINDS = {name: cache(make) for name, make in _kinds().items()}


def kinds(*formats: str) -> list[str]:
    """Return the names of all kinds of some formats."""
    return [name for name in KINDS if name.split()[0] in formats]
