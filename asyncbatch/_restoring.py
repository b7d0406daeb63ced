"""Samples whose rows are kept: they are not read, and copied into their batch as it is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from asyncbatch._assembly import Assembly
from asyncbatch._decoding import Damaged, Decoding
from asyncbatch._keeping import Kept
from asyncbatch._types import Indices, ReadCounters

__all__ = ["Restoring"]

_MOST = 64  # batches of which nothing is to be read: no budget of bytes holds them back, and each is some 10 KB


class Restoring:
    """The kept samples of one iteration; belongs to the event loop.

    Args:
        kept: The rows.
        decoding: Makes batches of them.
        read: Called with an open batch and a slot whose sample has to be read after all.

    Attributes:
        counters: What the cache had.
    """

    def __init__(self, kept: Kept, decoding: Decoding, read: Callable[[Assembly, int], None]) -> None:
        self.counters = ReadCounters()
        self._kept = kept
        self._decoding = decoding
        self._read = read
        self._asked = np.zeros(kept.count, bool)  # samples that were read, or will be, so that their rows come
        self._taken: dict[Assembly, tuple[Indices, bool]] = {}  # the slots, and whether all of their rows are there
        self._fewer = asyncio.Event()

    async def take(self, assembly: Assembly) -> Sequence[int]:
        """Take on the samples whose rows are kept or will be; return the slots of the others.

        Reading is ahead of decoding, at the end of an epoch well into the next one, of which nothing is kept yet. What
        was asked for once is kept by the time that it is needed again, unless there is no room.
        """
        if assembly.planned.error is not None:
            return ()
        indices = assembly.planned.indices
        others: list[int] = []
        held = self._kept.held(indices)
        if held.all():
            self._taken[assembly] = np.arange(len(indices)), True
        else:
            comes = held | self._asked[indices] if self._kept.has_room else held
            self._asked[indices] = True
            slots, others = np.flatnonzero(comes), np.flatnonzero(~comes).tolist()
            self.counters.cache_misses += len(others)
            if len(slots):
                self._taken[assembly] = slots, False
        while not others and len(self._taken) > _MOST:
            self._fewer.clear()
            await self._fewer.wait()
        return others

    def opened(self, assembly: Assembly) -> None:
        """Have the rows copied into a batch that is open now."""
        if assembly not in self._taken:
            return
        slots, are_there = self._taken.pop(assembly)
        self._fewer.set()
        if not are_there:
            there = self._kept.held(assembly.planned.indices[slots])
            self._missing(assembly, slots[~there].tolist())
            slots = slots[there]
        if len(slots):
            self._decoding.restore(assembly, slots, self._kept, self._damaged)
        self.counters.cache_hits += len(slots)
        self.counters.cache_bytes += len(slots) * self._kept.row_size

    def _damaged(self, found: Damaged) -> None:
        assembly, slots = found
        self.counters.cache_corrupt += len(slots)
        self.counters.cache_hits -= len(slots)
        self.counters.cache_bytes -= len(slots) * self._kept.row_size
        self._missing(assembly, slots)

    def _missing(self, assembly: Assembly, slots: Sequence[int]) -> None:
        self.counters.cache_misses += len(slots)
        for slot in slots:
            self._read(assembly, slot)
