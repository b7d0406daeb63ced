"""What the loader takes where nothing, or something short, was given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np

from asyncbatch._arguments import Size, require_whole, size_in_bytes
from asyncbatch._chunked import ChunkedSource
from asyncbatch._errors import ConfigError
from asyncbatch._keeping import RowCache
from asyncbatch._machine import usable_cores, usable_memory
from asyncbatch._stages import Stages
from asyncbatch._types import Array, Decoder, Hook, Reader, ReaderFactory, Source
from asyncbatch.decoders import ImageDecoder, as_decoder
from asyncbatch.readers import Cache, FileReader, ObjectReader
from asyncbatch.readers._chunks import ChunkReader
from asyncbatch.readers.cache import CachingReader
from asyncbatch.sources import ObjectSource

__all__ = [
    "check_batch_fits",
    "choose_decode_threads",
    "choose_decoder",
    "choose_hooks",
    "choose_keep",
    "choose_read_ahead",
    "choose_reader",
]

_log = logging.getLogger("asyncbatch")

_SHARE = 4  # bytes that wait to be decoded may take up a quarter of the memory: batches and the model need some, too


def choose_read_ahead(size: Size) -> int:
    """Return a budget in bytes, and no more than this process's share of the machine can bear."""
    wanted, bearable = size_in_bytes(size, "read_ahead"), usable_memory() // _SHARE
    if wanted > bearable:
        _log.info("read_ahead=%r is %d MB, a quarter of the memory that this process may use", size, bearable // 10**6)
    return min(wanted, bearable)


def choose_decode_threads(number: int | Literal["auto"]) -> int:
    if isinstance(number, str) and number == "auto":
        return usable_cores()
    return require_whole("decode_threads", number, least=1, example=2)


def choose_reader(
    source: Source, in_memory: bool, reader: Reader | ReaderFactory | None, cache: Cache | None
) -> Reader | ReaderFactory | None:
    """Return what reads a source's samples, of objects with the store that they were listed with, and its cache.

    Raises:
        ConfigError: It is no reader, or none for such a source.
    """
    chunked = hasattr(source, "load_chunk")
    if (in_memory or chunked) and reader is not None:
        raise ConfigError(f"the source has its pictures itself and nothing else is read; leave out reader={reader!r}")
    if in_memory and cache is not None:
        raise ConfigError(f"the source has its pictures itself and nothing is read; leave out cache={cache!r}")
    if in_memory:
        return None
    if chunked:
        chunks = cast("ChunkedSource", source)
        chosen: Reader | ReaderFactory = ChunkReader(chunks, min(chunks.keep, usable_memory() // _SHARE))
    else:
        chosen = _reader(source, reader)
    return CachingReader(chosen, cache) if cache is not None and cache.what == "raw" else chosen


def choose_keep(source: Source, in_memory: bool, cache: Cache | None, decoder: Decoder | None) -> RowCache | None:
    """Return where decoded rows are kept, if they are to be.

    Raises:
        ConfigError: The decoder's cannot be.
    """
    return None if cache is None or in_memory or cache.what == "raw" else RowCache(cache, source, decoder)


def _reader(source: Source, reader: Reader | ReaderFactory | None) -> Reader | ReaderFactory:
    if isinstance(source, ObjectSource):
        if isinstance(reader, FileReader):
            raise ConfigError(
                f"the source lists objects, and reader={reader!r} reads files; write reader=ObjectReader()"
            )
        reader = ObjectReader() if reader is None else reader
    if isinstance(reader, ObjectReader) and isinstance(source, ObjectSource):
        return reader.with_bucket(source.bucket)
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


def choose_hooks(hooks: object) -> tuple[Hook, ...]:
    """Return the hooks of a list.

    Raises:
        ConfigError: It is no list of objects with a `record`.
    """
    if isinstance(hooks, Sequence) and not isinstance(hooks, str | bytes):
        strange = [hook for hook in hooks if isinstance(hook, type) or not callable(getattr(hook, "record", None))]
        if not strange:
            return tuple(hooks)
        raise ConfigError(f"hooks must be objects with `def record(self, span)`, got {strange[0]!r} among them")
    one = "hooks=[hook]" if callable(getattr(hooks, "record", None)) else "hooks=[MyHook()]"
    raise ConfigError(f"hooks must be a list of objects with `def record(self, span)`, got {hooks!r}; write {one}")


def check_batch_fits(stages: Stages) -> None:
    """Refuse batches that no memory that this process may use could hold, before anything is read for them.

    Raises:
        ConfigError: One batch alone is larger than the memory.
    """
    size, memory = stages.batch_bytes, usable_memory()
    if size is not None and size > memory:
        decoder: Any = stages.decoder
        rows = f"{stages.plan.batch_size:,} rows of shape {decoder.row_shape} {np.dtype(decoder.row_dtype)}"
        raise ConfigError(
            f"a batch of {rows} takes {size / 1e9:,.1f} GB, and this process may use {memory / 1e9:,.1f} GB of memory; "
            "write a smaller batch_size, batch_size=32, or a smaller image_size"
        )
