"""What the loader takes where nothing, or something short, was given."""

from __future__ import annotations

import os
from collections.abc import Callable

from asyncbatch._errors import ConfigError
from asyncbatch._types import Array, Decoder, Reader, ReaderFactory
from asyncbatch.decoders import ImageDecoder, as_decoder
from asyncbatch.readers import FileReader

__all__ = ["choose_decoder", "choose_reader", "usable_cores"]


def choose_reader(in_memory: bool, reader: Reader | ReaderFactory | None) -> Reader | ReaderFactory | None:
    if in_memory:
        if reader is not None:
            raise ConfigError(f"the source is in memory and nothing is read; leave out reader={reader!r}")
        return None
    if reader is None:
        return FileReader()
    if not isinstance(reader, Reader | ReaderFactory):
        raise ConfigError(
            f"reader must have `async def read(sample) -> bytes` and an int `concurrency`, got {reader!r}; "
            "write reader=FileReader(concurrency=64)"
        )
    return reader


def choose_decoder(
    in_memory: bool, image_size: int | tuple[int, int] | None, decoder: Decoder | Callable[[bytes], Array] | None
) -> Decoder | None:
    if decoder is not None:
        if image_size is not None:
            raise ConfigError(
                f"image_size={image_size!r} is for the default decoder and decoder={decoder!r} was given as well; "
                "write decoder=ImageDecoder(image_size, ...) alone"
            )
        return as_decoder(decoder)
    if image_size is None and in_memory:
        return None
    return ImageDecoder(image_size)


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
