"""How sources turn what they list into a short text that changes when it does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from asyncbatch._types import Array
from asyncbatch.sources._plain import TextColumn

__all__ = ["Digest"]

_CHUNK = 1 << 14  # paths joined at a time: enough to make the call cheap, little enough to leave memory alone


class Digest:
    """blake2b over texts and arrays, each with its length or shape, so that no two lists run into each other."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def texts(self, texts: Sequence[str]) -> None:
        """Add strings that hold no NUL character."""
        self._hash.update(f"{len(texts)} texts".encode())
        if isinstance(texts, TextColumn):
            for piece in texts.joined():
                self._hash.update(piece)
            return
        for start in range(0, len(texts), _CHUNK):
            # surrogatepass: file names that are no valid text carry lone surrogates.
            self._hash.update("\0".join((*texts[start : start + _CHUNK], "")).encode("utf-8", "surrogatepass"))

    def array(self, array: Array | None, *, limit: int | None = None) -> None:
        """Add an array's shape, dtype and contents.

        Args:
            array: Any shape and numeric dtype; None is a value of its own.
            limit: Above this many bytes only rows at even distances are hashed, about as many as fit in the limit and
                never fewer than the first and the last. None hashes everything.
        """
        if array is None:
            self._hash.update(b"none")
            return
        self._hash.update(f"{array.dtype.newbyteorder('<').str}{array.shape}".encode())
        if limit is not None and array.nbytes > limit:
            rows = min(len(array), max(2, limit * len(array) // array.nbytes))
            array = array[np.linspace(0, len(array) - 1, rows).astype(np.int64)]
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._hash.update(np.ascontiguousarray(little_endian).tobytes())

    def text(self) -> str:
        return self._hash.hexdigest()
