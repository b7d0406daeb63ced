"""The pictures of items, which are anything that holds a picture, as what decoders take: bytes or an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncbatch._types import Array, Decoder, SeedKey
from asyncbatch.decoders.images import ImageDecoder

__all__ = ["ItemDecoder"]

_DEEP_GREY = ("I", "F")  # modes of Pillow with 32 bits a pixel; those with 16 begin with "I;16"
_FLAT = ("1", "L", "LA", "La")


class ItemDecoder:
    """Makes rows of the pictures of an `ItemSource`.

    Args:
        decoder: What the loader was given; None takes arrays for rows as they are, and bytes for files of pictures.
    """

    def __init__(self, decoder: Decoder | None) -> None:
        self._decoder = decoder
        self._channels = decoder.channels if isinstance(decoder, ImageDecoder) else None
        self._files = ImageDecoder() if decoder is None else decoder
        self.row_shape = None if decoder is None else decoder.row_shape
        self.row_dtype = None if decoder is None else decoder.row_dtype

    def decode(self, data: Any, out: Array | None, seed: SeedKey) -> Array:
        """Decode one picture.

        Raises:
            TypeError: It is nothing that holds a picture.
            Exception: Whatever the decoder raises.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            return self._files.decode(bytes(data), out, seed)
        row = self._as_array(data)
        return row if self._decoder is None else self._decoder.decode(row, out, seed)

    def _as_array(self, data: Any) -> Array:
        if any(base.__module__.partition(".")[0] == "PIL" for base in type(data).__mro__):
            return _of_pillow(data, self._channels)
        if isinstance(data, str) or hasattr(data, "__fspath__"):
            raise TypeError(
                f"its picture is the text {str(data)!r}, and must be an array, a Pillow image or bytes; write paths "
                "to a file, and Loader(sources.manifest('list.txt'), …)"
            )
        array = np.array(
            np.asarray(data), order="C"
        )  # a copy: decoders may write to it, and it may be the dataset's own
        if array.dtype.kind not in "biufc":
            raise TypeError(
                f"its picture is {type(data).__name__}, and must be an array of numbers, a Pillow image or bytes"
            )
        return array


def _of_pillow(image: Any, channels: str | None) -> Array:
    """Return a Pillow image as an array, (H, W) where it is grey, else (H, W, 3).

    Args:
        image: The image; importing Pillow is left to whoever has made it.
        channels: What an `ImageDecoder` wants; None where only the image tells.
    """
    deep = image.mode.startswith("I;16")
    if deep and channels is not None:
        grey = (np.array(image) >> 8).astype(np.uint8)  # the upper eight bits, as for files
        return grey if channels == "gray" else np.repeat(grey[..., None], 3, axis=2)
    if not deep and image.mode not in _DEEP_GREY:
        flat = image.mode in _FLAT if channels is None else channels == "gray"
        mode = "L" if flat else "RGB"
        image = image if image.mode == mode else image.convert(mode)
    array = np.array(image)
    return np.ascontiguousarray(array[..., ::-1]) if channels == "bgr" and array.ndim == 3 else array
