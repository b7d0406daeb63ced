"""The order in which complete batches leave, and the moment when none will follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncbatch._assembly import Assembly

__all__ = ["Leaving"]


class Leaving:
    """Where batches wait for those before them; belongs to the event loop.

    Args:
        in_order: Whether they leave in the order of the plan, or as they complete.
        is_quiet: Whether no thread has anything left to tell: what it counted of the last batch would be lost.
        on_drained: Called once every planned batch is complete, no further one will be planned, and all is quiet.
    """

    def __init__(self, in_order: bool, is_quiet: Callable[[], bool], on_drained: Callable[[], None]) -> None:
        self._in_order = in_order
        self._queue: asyncio.Queue[Assembly | None] = asyncio.Queue()
        self._complete: dict[int, Assembly] = {}  # those that wait for one before them
        self._next_place = 0
        self._unfinished = 0
        self._all_planned = False
        self._drained = False
        self._is_quiet = is_quiet
        self._on_drained = on_drained

    def expect(self) -> None:
        """Hear of a batch that was planned."""
        self._unfinished += 1

    def expect_no_more(self) -> None:
        """Hear that no further batch will be planned."""
        self._all_planned = True
        self.look()

    def complete(self, assembly: Assembly) -> None:
        """Let a batch go as soon as its turn comes."""
        self._unfinished -= 1
        if self._in_order:
            self._complete[assembly.planned.place] = assembly
            while (next_one := self._complete.pop(self._next_place, None)) is not None:
                self._queue.put_nowait(next_one)
                self._next_place += 1
        else:
            self._queue.put_nowait(assembly)
        self.look()

    def look(self) -> None:
        """End it if it is drained; to be called when it may have become quiet."""
        if self._all_planned and not self._unfinished and not self._drained and self._is_quiet():
            self._drained = True
            self.end()
            self._on_drained()

    async def next(self) -> Assembly | None:
        """Wait for the next batch to leave; None is the end."""
        return await self._queue.get()

    def end(self) -> None:
        """End it after what has left so far."""
        self._queue.put_nowait(None)

    def clear(self) -> None:
        """Let go of every batch."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._complete.clear()
