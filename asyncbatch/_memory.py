"""Memory for batches, used again once nobody refers to it.

Fresh pages cost: the kernel clears each one as it is first touched, and a batch of 32 float64 pictures of 224×224 has
39 MB of them. So a batch's pages go to a later batch, but only when no array, view, tensor or memoryview refers to them
any more. Views of a NumPy array refer to the array that was made over the buffer, however many views lie between, so
the end of that one array is the exact moment.

The pages are mapped for the purpose, not taken from malloc, which keeps freed batches in the arenas of ended threads.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

from asyncbatch._types import Array

__all__ = ["BatchMemory"]


# Smaller batches come from malloc: their pages are few, and a process may have only some 65,000 mappings.
_SMALLEST = 2**20


class BatchMemory:
    """Lends arrays, and lends their memory again when they are gone. Safe to use from any thread.

    Args:
        spare: The most buffers that are kept while nobody uses them.
    """

    def __init__(self, spare: int) -> None:
        self._free: deque[mmap.mmap] = deque(maxlen=spare)  # one too many pushes out the oldest, which unmaps it
        self._closed = False

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of that shape and dtype, its contents arbitrary."""
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size < _SMALLEST:
            return np.empty(shape, dtype)
        buffer = self._take(size)
        flat = np.frombuffer(buffer, dtype, count)
        weakref.finalize(flat, self._take_back, buffer).atexit = False
        return flat.reshape(shape)

    def close(self) -> None:
        """Let go of what is spare. Arrays that are lent stay as they are, and their memory goes with them."""
        self._closed = True
        self._free.clear()

    def _take_back(self, buffer: mmap.mmap) -> None:
        if not self._closed:
            self._free.append(buffer)

    def _take(self, size: int) -> mmap.mmap:
        with suppress(IndexError):
            while len(buffer := self._free.pop()) < size:  # the latest: the cache has more of it than of others
                pass  # a short last batch's; those of full ones will do for any
            return buffer
        return _map(size)


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    # Private: the default is shared, and a forked child would write into its parent's batches.
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # as NumPy asks for its own large arrays; not every kernel has them
        with suppress(OSError):
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer
