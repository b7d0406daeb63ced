"""How far reading may run ahead: a budget of bytes, not of files.

Raw pictures are small, so a deep look-ahead is cheap, and it has to be deep: in an ordered stream one slow file among a
hundred is hidden only if the hundred are already there. How many reads are under way at once is a separate matter.
"""

from __future__ import annotations

import asyncio

__all__ = ["ReadAheadWindow"]

# What a sample costs at least: its Python objects and the allocator's rounding. It bounds the number of tiny samples.
_SMALLEST = 4096

# The first reads are issued before any size is known; a photograph at the size people train on has about this.
_FIRST_GUESS = 64 * 1024


class ReadAheadWindow:
    """Counts the bytes that are being read or wait to be decoded; belongs to the event loop.

    Args:
        limit: The budget in bytes. A sample larger than all of it passes alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._mean_size = float(_FIRST_GUESS)
        self._released = asyncio.Event()

    async def reserve(self, length: int | None) -> int:
        """Wait for room for one sample; return what was reserved.

        Args:
            length: Its size in bytes; None where only reading tells, and then the mean so far is taken.
        """
        cost = self._cost_of(length)
        # With nothing held there is nothing to wait for, so a sample that is too large cannot stop the stream.
        while self._held and self._held + cost > self._limit:
            self._released.clear()
            await self._released.wait()
        self._held += cost
        return cost

    def reserve_now(self, length: int | None) -> int:
        """Do what `reserve` does for a sample that others wait for: it may go over the budget, and waits for nothing.

        Whoever holds the room that it would wait for may be behind it in the order of the plan.
        """
        cost = self._cost_of(length)
        self._held += cost
        return cost

    def arrive(self, reserved: int, size: int) -> None:
        """Put a sample's true size in the place of what was reserved for it."""
        self._mean_size += (size - self._mean_size) / 32
        self._change(_cost(size) - reserved)

    def cancel(self, reserved: int) -> None:
        """Give back what was reserved for a sample that could not be read."""
        self._change(-reserved)

    def release(self, size: int) -> None:
        """Give back the bytes of a sample that was decoded."""
        self._change(-_cost(size))

    def _cost_of(self, length: int | None) -> int:
        return _cost(int(self._mean_size) if length is None else length)

    def _change(self, by: int) -> None:
        self._held += by
        if by < 0:
            self._released.set()


def _cost(size: int) -> int:
    return max(size, _SMALLEST)
