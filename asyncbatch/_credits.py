"""Leave to open batches: only so many may be open, or complete and not taken.

The caller gives a credit back with each batch that it takes. To wake the event loop up for each would cost some 20 µs
and, worse, the decode threads would wait for the interpreter meanwhile. So while they have enough to do, the loop finds
the credits when it is next awake.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Credits"]


class Credits:
    """Credits of one iteration. They are taken on the event loop, by one task; given back from any thread.

    Args:
        count: How many there are.
        loop: The event loop.
        is_urgent: Whether a batch should be opened now if one is waiting to be; asked from any thread. Whoever makes it
            say yes has to `look` after that.
    """

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop, is_urgent: Callable[[], bool]) -> None:
        self._loop = loop
        self._is_urgent = is_urgent
        self._lock = threading.Lock()
        self._free = count
        self._turn: asyncio.Future[None] | None = None  # of who waits for one

    async def take(self) -> None:
        """Wait for a credit."""
        with self._lock:
            self._free -= 1
            if self._free >= 0:
                return
            self._turn = turn = self._loop.create_future()
        await turn

    def give(self) -> None:
        """Give one back."""
        with self._lock:
            self._free += 1
            awaited = self._turn is not None
        # It is there before the question is asked: whoever makes it urgent after the answer finds it.
        if awaited and self._is_urgent():
            with suppress(RuntimeError):  # the loop is closed: the iteration is over
                self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """See whether a credit is there for who waits; on the loop."""
        if self._turn is None:
            return
        with self._lock:
            if self._free < 0:
                return
            turn, self._turn = self._turn, None
        if not turn.done():  # done: cancelled
            turn.set_result(None)
