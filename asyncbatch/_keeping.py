"""Rows that were decoded once and kept, so that later epochs copy them instead of reading and decoding.

What is kept is a picture in the size that every one has before anything random is done to it. So decoding is cut in
two there: one `ImageDecoder` makes that picture of the bytes, and the one that the user gave makes the row of the
picture, as it does of any picture in memory. Together they do what the second does of the bytes, to the bit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import simplejpeg

from asyncbatch._errors import ConfigError
from asyncbatch._types import Array, Decoder, Indices, SeedKey, Source
from asyncbatch.decoders import ImageDecoder, Resize
from asyncbatch.decoders._scratch import scratch
from asyncbatch.readers import Cache
from asyncbatch.readers._rows import Rows

__all__ = ["KeepingDecoder", "Kept", "RowCache"]


class RowCache:
    """A cache of rows, as one loader sees it.

    Args:
        cache: Where they are.
        source: Whose they are; the fingerprint is part of what they are known by.
        decoder: What makes the rows of a batch.

    Raises:
        ConfigError: Nothing that the decoder does has one shape and is not random.
    """

    def __init__(self, cache: Cache, source: Source, decoder: Decoder | None) -> None:
        self._cache = cache
        self._source = source
        self._first, self._second = _cut_in_two(decoder)
        self._known_whole = np.zeros(len(source), bool) if cache.verify else None
        self._kept: Kept | None = None
        self._owner = 0  # the process that opened them: a fork has to by itself, or both would hold the same locks

    def open(self) -> Kept:
        """Return the rows, opened if this is the first time, which may take a while.

        They stay open until `close`, so that their pages need not be mapped anew for each epoch, and longer while
        somebody refers to them.

        Raises:
            ConfigError: The cache cannot be used.
        """
        # Without a lock: a disk that hangs would keep `close` waiting, and a fork would find it taken. Two iterations,
        # of which one ends, may open them twice.
        kept = self._kept
        if kept is None or self._owner != os.getpid():
            kept = self._kept = self._opened()
            self._owner = os.getpid()
        return kept

    def close(self) -> None:
        """Let go of the rows."""
        self._kept = None

    def _opened(self) -> Kept:
        shape = self._first.row_shape
        assert shape is not None  # noqa: S101 - `_cut_in_two` sees to it
        rows = self._cache.open_rows(self._name(shape), len(self._source), shape)
        return Kept(rows, self._known_whole, KeepingDecoder(self._first, self._second, rows.put))

    def _name(self, shape: tuple[int, ...]) -> str:
        # A fingerprint does not tell one folder from another with the same names; its first and last sample do. And
        # another version of a library may round otherwise.
        places = []
        for index in (0, len(self._source) - 1):
            with suppress(Exception):  # it is that sample's error, in its turn
                sample = self._source[index]
                places.append((sample.key, sample.path, sample.offset, sample.length))
        versions = cv2.__version__, simplejpeg.__version__
        what = (self._source.fingerprint, len(self._source), places, repr(self._first), versions)
        return f"{'x'.join(map(str, shape))}-{hashlib.blake2b(repr(what).encode(), digest_size=16).hexdigest()}"


class Kept:
    """The rows that are kept, in use.

    Args:
        rows: What there is.
        known_whole: For each row whether it was compared with its checksum; None if none is to be.
        decoder: Makes rows of bytes, and keeps them.
    """

    def __init__(self, rows: Rows, known_whole: Array | None, decoder: KeepingDecoder) -> None:
        self.decoder = decoder
        self._rows = rows
        self._known_whole = known_whole

    @property
    def row_size(self) -> int:
        """Bytes of a row."""
        return self._rows.size

    @property
    def count(self) -> int:
        """How many rows there can be."""
        return len(self._rows)

    @property
    def has_room(self) -> bool:
        """Whether rows that are decoded are kept still."""
        return self._rows.has_room

    def held(self, indices: Indices) -> Array:
        """Return for each sample whether its row is there."""
        return self._rows.held(indices)

    def damaged(self, indices: Indices) -> Array:
        """Return for each row whether it is not what it was when it came; looks at each of them once."""
        damaged = np.zeros(len(indices), bool)
        if self._known_whole is not None:
            for place in np.flatnonzero(~self._known_whole[indices]).tolist():
                index = int(indices[place])
                damaged[place] = not self._rows.is_whole(index)
                self._known_whole[index] = not damaged[place]
        return damaged

    @property
    def is_ready(self) -> bool:
        """Whether a row that is kept is a row of the batch."""
        return self.decoder.second is None

    def take(self, indices: Indices, out: Array) -> None:
        """Copy rows, one for each of `out`."""
        self._rows.take(indices, out)

    def row(self, index: int) -> Array:
        """Return a row, (H, W, C) uint8, not to be written to."""
        return self._rows.row(index)


class KeepingDecoder:
    """Decodes pictures and keeps them on the way.

    Args:
        first: Makes what is kept.
        second: Makes the row of it; None where it is the row.
        keep: Is given each picture and its index.
    """

    def __init__(self, first: ImageDecoder, second: ImageDecoder | None, keep: Callable[[int, Array], None]) -> None:
        self.first = first
        self.second = second
        last = second or first
        self.row_shape, self.row_dtype = last.row_shape, last.row_dtype
        self._keep = keep

    def decode(self, data: Any, out: Array | None, seed: SeedKey) -> Array:
        """Decode one picture: of a file's bytes, or as it was kept."""
        if isinstance(data, np.ndarray) and data.ndim > 1:
            assert self.second is not None  # noqa: S101 - else it is copied
            return self.second.decode(data, out, seed)
        if self.second is None:
            row = self.first.decode(data, out, seed)
            self._keep(seed[2], row)
            return row
        assert self.first.row_shape is not None  # noqa: S101 - `_cut_in_two` sees to it
        picture = self.first.decode(data, scratch("kept", self.first.row_shape), seed)
        self._keep(seed[2], picture)
        return self.second.decode(picture, out, seed)


def _cut_in_two(decoder: Decoder | None) -> tuple[ImageDecoder, ImageDecoder | None]:
    """Return what makes the pictures that are kept, and what makes rows of them if they are not the rows.

    Raises:
        ConfigError: There are none of one shape.
    """
    if type(decoder) is not ImageDecoder:
        raise ConfigError(
            f"what='decoded' is for an ImageDecoder, which says what it does, and not for {decoder!r}; "
            "write decoder=ImageDecoder(224), or Cache(…, what='raw')"
        )
    size, interpolation = decoder.image_size, decoder.interpolation
    if decoder.transform is not None:
        transforms = decoder.transform if isinstance(decoder.transform, tuple) else (decoder.transform,)
        lead = transforms[0] if transforms else None
        size = lead.size if type(lead) is Resize and isinstance(lead.size, Sequence) else None
        interpolation = lead.interpolation if type(lead) is Resize else interpolation
    if size is None:
        wanted = "image_size=224" if decoder.transform is None else "transform=[Resize((256, 256)), …]"
        raise ConfigError(
            f"what='decoded' keeps pictures of one size, and {decoder!r} makes none before anything random is done; "
            f"write ImageDecoder({wanted}), or Cache(…, what='raw')"
        )
    first = replace(
        decoder, image_size=size, interpolation=interpolation, transform=None,
        dtype="uint8", layout="nhwc", scale=None, mean=None, std=None,
    )  # fmt: skip
    return (decoder, None) if first == decoder else (first, decoder)
