"""Memory that each thread uses for one picture after another.

A decoded photograph is needed until it is resized, and malloc gives such memory back to the system, which then clears
its pages afresh for the next one.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from asyncbatch._types import Array

__all__ = ["scratch"]

_LARGEST = 1 << 23  # bytes; a thread that kept more would hold memory that no budget knows of


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, Array] = {}
        self.latest: dict[str, Array] = {}  # as it was asked for last


_own = _Scratch()


def scratch(purpose: str, shape: tuple[int, ...]) -> Array:
    """Return a contiguous uint8 array of arbitrary contents, this thread's until it asks again for the same purpose."""
    latest = _own.latest.get(purpose)
    if latest is not None and latest.shape == shape:
        return latest
    size = math.prod(shape)
    if size > _LARGEST:
        return np.empty(shape, np.uint8)
    buffer = _own.buffers.get(purpose)
    if buffer is None or len(buffer) < size:
        buffer = _own.buffers[purpose] = np.empty(1 << (size - 1).bit_length(), np.uint8)
    view = _own.latest[purpose] = buffer[:size].reshape(shape)
    return view
