"""How far reading may run ahead: a budget of bytes, not of files.

Raw pictures are small, so a deep look-ahead is cheap, and it has to be deep: in an ordered stream one slow file among a
hundred is hidden only if the hundred are already there. How many reads are under way at once is a separate matter.

How large a file is, only reading it tells. So the reads under way count as what they are likely to bring together: n of
them bring n times the mean size, give or take √n standard deviations, and room is kept for four of these. Small files
come before large ones that were begun with them, so that those still under way are larger than those known: they count
as a deviation more than the mean. Where all pictures are alike, none of that makes a difference.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

__all__ = ["ReadAheadWindow"]

# What a sample costs at least: its Python objects and the allocator's rounding. It bounds the number of tiny samples.
_SMALLEST = 4096

# So many reads are begun before any size is known (pictures of 20 MB then take up the default budget), and then so many
# times as many as sizes are known, so that they double with each answer of the storage.
_UNKNOWN_AT_FIRST = 12
_UNKNOWN_PER_KNOWN = 1

_REMEMBERED = 256  # samples that mean and deviation follow
_DEVIATIONS = 4.0

# Once it is full, reading waits until so much is free. A reader is told of several files at once, not of each as room
# for it comes, which costs fewer hops.
_RESUMED_AT = 7 / 8


class ReadAheadWindow:
    """Counts the bytes that are being read or wait to be decoded; belongs to the event loop.

    Args:
        limit: The budget in bytes. A sample larger than all of it passes alone.
        at_first: How many reads are begun before any size is known.
    """

    def __init__(self, limit: int, at_first: int = _UNKNOWN_AT_FIRST) -> None:
        self._limit = limit
        self._at_first = at_first
        self._held = 0  # bytes that are there, or are known to come
        self._unknown = 0  # reads under way whose size is not known
        self._known = 0  # sizes seen so far
        self._mean = 0.0
        self._variance = 0.0
        self._changed = asyncio.Event()

    async def reserve(self, length: int | None) -> int | None:
        """Wait for room for one sample; return what is to be given back by `arrive` or `cancel`.

        Args:
            length: Its size in bytes; None where only reading tells.
        """
        if not self._has_room(length, self._limit):
            while not self._has_room(length, _RESUMED_AT * self._limit):
                self._changed.clear()
                await self._changed.wait()
        return self.reserve_now(length)

    def reserve_now(self, length: int | None) -> int | None:
        """Do what `reserve` does for a sample that others wait for: it may go over the budget, and waits for nothing.

        Whoever holds the room that it would wait for may be behind it in the order of the plan.
        """
        if length is None:
            self._unknown += 1
            return None
        self._held += _cost(length)
        return _cost(length)

    def arrive(self, reserved: int | None, size: int) -> None:
        """Put a sample's true size in the place of what was reserved for it."""
        self._known += 1
        weight = 1 / min(self._known, _REMEMBERED)
        difference = _cost(size) - self._mean
        self._mean += weight * difference
        self._variance = (1 - weight) * (self._variance + weight * difference * difference)  # West, CACM 22(9), 1979
        self._held += _cost(size)
        self.cancel(reserved)

    def cancel(self, reserved: int | None) -> None:
        """Give back what was reserved for a sample that could not be read."""
        if reserved is None:
            self._unknown -= 1
        else:
            self._held -= reserved
        self._changed.set()

    def release(self, sizes: Sequence[int]) -> None:
        """Give back the bytes of samples that were decoded, of these sizes."""
        self._held -= sum(map(_cost, sizes))
        self._changed.set()

    def _has_room(self, length: int | None, limit: float) -> bool:
        # With nothing held there is nothing to wait for, so a sample that is too large cannot stop the stream.
        if not self._held and not self._unknown:
            return True
        unknown = self._unknown + (length is None)
        if length is None and unknown > max(self._at_first, _UNKNOWN_PER_KNOWN * self._known):
            return False
        deviation = math.sqrt(self._variance)
        likely = unknown * (self._mean + deviation) + _DEVIATIONS * math.sqrt(unknown) * deviation
        return self._held + likely + (0 if length is None else _cost(length)) <= limit


def _cost(size: int) -> int:
    return max(size, _SMALLEST)
