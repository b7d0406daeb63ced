"""What the loader takes where nothing, or something short, was given."""

from __future__ import annotations

import logging
from collections.abc import Callable

from asyncbatch._arguments import Size, size_in_bytes
from asyncbatch._errors import ConfigError
from asyncbatch._machine import usable_memory
from asyncbatch._types import Array, Decoder, Reader, ReaderFactory
from asyncbatch.decoders import ImageDecoder, as_decoder
from asyncbatch.readers import FileReader

__all__ = ["choose_decoder", "choose_read_ahead", "choose_reader"]

_log = logging.getLogger("asyncbatch")

_SHARE = 4  # bytes that wait to be decoded may take up a quarter of the memory: batches and the model need some, too


def choose_read_ahead(size: Size) -> int:
    """Return a budget in bytes, and no more than this process's share of the machine can bear."""
    wanted, bearable = size_in_bytes(size, "read_ahead"), usable_memory() // _SHARE
    if wanted > bearable:
        _log.info("read_ahead=%r is %d MB, a quarter of the memory that this process may use", size, bearable // 10**6)
    return min(wanted, bearable)


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
