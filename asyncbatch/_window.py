"""How far reading may run ahead: a budget of bytes, not of files.

Raw pictures are small, so a deep look-ahead is cheap, and it has to be deep: in an ordered stream one slow file among a
hundred is hidden only if the hundred are already there. How many reads are under way at once is a separate matter.

How large a file is, only opening it tells. So the reads that were asked for count as what they are likely to bring
together: n of them bring n times the mean size, give or take √n standard deviations, and room is kept for four of
these. Small files come before large ones that were begun with them, so that those still under way are larger than those
known: they count as a deviation more than the mean. Where all pictures are alike, none of that makes a difference.

That decides how many are asked for. What is held is exact where the reader claims each file's size before it reads it:
one that does not fit any more is put off. Those that were put off have the first claim to what becomes free. A batch
that is open waits for nobody else's bytes, while others wait for it; so what it lacks may go over the budget, if no
other byte of an open batch is there, which would go by itself. Therefore the budget is kept but for one file, and
nothing waits for what waits for it. (A file larger than all of the budget passes when nothing else is held.)
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol

__all__ = ["ReadAheadWindow", "Room"]

# What a sample costs at least: its Python objects and the allocator's rounding. It bounds the number of tiny samples.
_SMALLEST = 4096

# So many reads are begun before any size is known, enough for two rounds of a reader that starts carefully; and then so
# many as sizes are known, so that they double with each answer of the storage.
_UNKNOWN_AT_FIRST = 64

_REMEMBERED = 256  # samples that mean and deviation follow
_DEVIATIONS = 4.0

# Once it is full, reading waits until so much is free. A reader is told of several files at once, not of each as room
# for it comes, which costs fewer hops.
_RESUMED_AT = 7 / 8


class Batch(Protocol):
    """What a sample is read for."""

    is_open: bool
    """Whether it waits for nothing but its samples."""


class Room:
    """One sample's place in the window.

    Args:
        window: Whose it is.
        length: The sample's size in bytes; None where only opening its file tells.
        batch: What the sample is for.
        order: The sample's place in the plan.

    Attributes:
        held: Bytes that it takes up; None while that is not known.
        is_settled: Whether the sample arrived or failed. Threads that are still at it, since they hung or another
            replica was faster, get nothing any more.
    """

    __slots__ = ("batch", "held", "is_settled", "order", "window")

    def __init__(self, window: ReadAheadWindow, length: int | None, batch: Batch, order: tuple[int, int]) -> None:
        self.window = window
        self.batch = batch
        self.order = order
        self.held = None if length is None else _cost(length)
        self.is_settled = False

    def claim(self, size: int) -> bool:
        """Take what a file of `size` bytes needs, if it is there; from any thread."""
        return self.window.take(self, size, may_exceed=False)

    async def wait(self, size: int) -> None:
        """Wait for what could not be claimed, and take it."""
        await self.window.take_in_turn(self, size)


class ReadAheadWindow:
    """Counts the bytes that are being read or wait to be decoded; belongs to the event loop, `take` excepted.

    Args:
        limit: The budget in bytes. A sample larger than all of it passes alone.
        at_first: How many reads are begun before any size is known.

    Attributes:
        waiting: Samples that arrived and were not released.
    """

    def __init__(self, limit: int, at_first: int = _UNKNOWN_AT_FIRST) -> None:
        self._limit = limit
        self._at_first = at_first
        self.waiting = 0
        self._known = 0  # sizes seen so far
        self._mean = 0.0
        self._variance = 0.0
        self._changed = asyncio.Event()
        # A heap in the order of the plan.
        self._put_off: list[tuple[tuple[int, int], int, Room, int, asyncio.Future[None]]] = []
        self._number = itertools.count()
        self._lock = threading.Lock()  # guards what follows, and what rooms hold
        self._held = 0  # bytes that are there, or are known to come
        self._unknown = 0  # rooms whose size is not known
        self._is_closed = False
        self._held_by_open = 0  # of these, for batches that are open
        self._held_by: dict[Batch, int] = {}  # and for each of the others

    @property
    def held(self) -> int:
        """Bytes that are there, or are known to come."""
        return self._held

    async def reserve(self, length: int | None, batch: Batch, order: tuple[int, int]) -> Room:
        """Wait until one more sample may be read.

        Args:
            length: Its size in bytes; None where only opening its file tells.
            batch: What it is for.
            order: Its place in the plan.
        """
        if not self._has_room(length, self._limit):
            while not self._has_room(length, _RESUMED_AT * self._limit):
                self._changed.clear()
                await self._changed.wait()
        return self.reserve_now(length, batch, order)

    def reserve_if_free(self, length: int | None, batch: Batch, order: tuple[int, int]) -> Room | None:
        """Do what `reserve` does where there is no need to wait; None where there is."""
        return self.reserve_now(length, batch, order) if self._has_room(length, self._limit) else None

    def reserve_now(self, length: int | None, batch: Batch, order: tuple[int, int]) -> Room:
        """Do what `reserve` does for a sample that others wait for: it may go over the budget, and waits for nothing.

        Whoever holds the room that it would wait for may be behind it in the order of the plan.
        """
        room = Room(self, length, batch, order)
        with self._lock:
            if room.held is None:
                self._unknown += 1
            else:
                self._count(batch, room.held)
        return room

    def take(self, room: Room, size: int, *, may_exceed: bool) -> bool:
        """Let a room hold `size` bytes; from any thread.

        Args:
            room: Which.
            size: How many bytes it needs in all.
            may_exceed: Over the budget, too, if no other byte is held for a batch that is open: those go by themselves.
        """
        with self._lock:
            if room.is_settled or self._is_closed:
                return False
            own = room.held or 0
            more = max(0, _cost(size) - own)
            fits = not more or self._held == own or self._held + more <= self._limit
            if not fits and not (may_exceed and self._held_by_open <= own):
                return False
            self._hold(room, own + more)
            return True

    async def take_in_turn(self, room: Room, size: int) -> None:
        """Let a room hold `size` bytes as soon as the budget allows it, and nobody before it in the plan waits."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._put_off, (room.order, next(self._number), room, size, turn))
        self.look()
        await turn

    def opened(self, batch: Batch) -> None:
        """Hear that a batch waits for nothing but its samples from now on."""
        with self._lock:
            self._held_by_open += self._held_by.pop(batch, 0)
        self.look()

    def look(self) -> None:
        """See who of those that were put off may go on."""
        while self._put_off:
            *_, room, size, turn = self._put_off[0]
            if not turn.done():  # done: cancelled
                if not self.take(room, size, may_exceed=room.batch.is_open):
                    return
                turn.set_result(None)
            heappop(self._put_off)
        self._changed.set()

    def arrive(self, room: Room, size: int) -> None:
        """Hear how large a sample is, which is there now, whatever its room holds."""
        self.waiting += 1
        self._known += 1
        weight = 1 / min(self._known, _REMEMBERED)
        difference = _cost(size) - self._mean
        self._mean += weight * difference
        self._variance = (1 - weight) * (self._variance + weight * difference * difference)  # West, CACM 22(9), 1979
        self._settle(room, _cost(size))

    def cancel(self, room: Room) -> None:
        """Take back the room of a sample that could not be read."""
        self._settle(room, 0)

    def release(self, sizes: Sequence[int]) -> None:
        """Take back the rooms of samples that were decoded, of these sizes."""
        self.waiting -= len(sizes)
        total = sum(map(_cost, sizes))
        with self._lock:
            self._held -= total
            self._held_by_open -= total  # only what is of an open batch is decoded
        self.look()

    def borrow(self, size: int) -> bool:
        """Take room for a large file that is used up as soon as it is there, if there is any; from any thread."""
        with self._lock:
            fits = not self._is_closed and (not self._held or self._held + size <= self._limit)
            if fits:
                self._held += size
                self._held_by_open += size
            return fits

    def give_back(self, size: int) -> None:
        """Give room back that was borrowed; from any thread. Whoever does so has the loop `look` after that."""
        with self._lock:
            self._held -= size
            self._held_by_open -= size

    def close(self) -> None:
        """Let go of every batch; threads that are still at it get nothing any more."""
        with self._lock:
            self._is_closed = True
            self._held_by.clear()
        self._put_off.clear()

    def _settle(self, room: Room, held: int) -> None:
        with self._lock:
            self._hold(room, held)
            room.is_settled = True
        self.look()

    def _hold(self, room: Room, held: int) -> None:
        if room.held is None:
            self._unknown -= 1
        more = held - (room.held or 0)
        room.held = held
        self._count(room.batch, more)

    def _count(self, batch: Batch, more: int) -> None:
        self._held += more
        if batch.is_open:
            self._held_by_open += more
        elif total := self._held_by.pop(batch, 0) + more:  # of one that failed whole, nothing is kept
            self._held_by[batch] = total

    def _has_room(self, length: int | None, limit: float) -> bool:
        # With nothing held there is nothing to wait for, so a sample that is too large cannot stop the stream.
        if not self._held and not self._unknown:
            return True
        if self._put_off:
            return False
        unknown = self._unknown + (length is None)
        if length is None and unknown > max(self._at_first, self._known):
            return False
        deviation = math.sqrt(self._variance)
        likely = unknown * (self._mean + deviation) + _DEVIATIONS * math.sqrt(unknown) * deviation
        return self._held + likely + (0 if length is None else _cost(length)) <= limit


def _cost(size: int) -> int:
    return max(size, _SMALLEST)
