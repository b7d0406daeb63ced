"""The queue between the engine's event loop and whoever iterates: a plain thread, or another event loop.

Both sides meet under one condition variable, which costs about 10 µs a batch; draining an asyncio queue from another
thread by `run_coroutine_threadsafe` costs 200 to 400. The queue itself never refuses a batch: it is bounded because the
pipeline begins a batch only against a credit, and taking a batch gives one back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Handoff"]

# A signal that comes after CPython has looked for one and before it sleeps in the lock is noticed when it wakes up, and
# where reads hang that may be never: of 60 Ctrl-C during hangs, 2 or 3 were lost until the next batch. So it wakes up.
_SIGNALS = 0.25

T = TypeVar("T")

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Handoff(Generic[T]):
    """Hands batches over in the order in which they were put.

    `get` and `aget` return None at the end. An error is raised once, after the batches before it, and the end follows.

    Args:
        on_taken: Called in the taker's thread with each batch that was taken.
    """

    def __init__(self, on_taken: Callable[[T], None]) -> None:
        self._on_taken = on_taken
        self._changed = threading.Condition(threading.Lock())
        self._batches: deque[T] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._waiters: list[_Waiter] = []

    def put(self, batch: T) -> None:
        """Append a batch. Batches that come after the end are dropped."""
        with self._changed:
            if not self._ended:
                self._batches.append(batch)
                self._wake()

    def end(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """End the stream, after what is in the queue or, with `discard`, at once. The first end counts."""
        with self._changed:
            if discard:
                self._batches.clear()
                self._error = None
            if not self._ended:
                self._ended = True
                self._error = error
            self._wake()

    def get(self) -> T | None:
        """Wait for the next batch, blocking this thread."""
        with self._changed:
            while not self._ready():
                self._changed.wait(_SIGNALS)
            batch = self._take()
        return self._taken(batch)

    async def aget(self) -> T | None:
        """Wait for the next batch on the running loop. When cancelled, it has taken nothing."""
        loop = asyncio.get_running_loop()
        while True:
            with self._changed:
                if self._ready():
                    batch = self._take()
                    break
                waiter = (loop, loop.create_future())
                self._waiters.append(waiter)
            try:
                await waiter[1]
            finally:
                with self._changed, suppress(ValueError):
                    self._waiters.remove(waiter)
        return self._taken(batch)

    def _ready(self) -> bool:
        return bool(self._batches) or self._ended

    def _take(self) -> T | None:
        if self._batches:
            return self._batches.popleft()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback holds this frame: no cycle, which would keep the caller's iterator alive
        return None

    def _taken(self, batch: T | None) -> T | None:
        if batch is not None:
            self._on_taken(batch)
        return batch

    def _wake(self) -> None:
        # Everybody looks again: there is one taker as a rule, and two must not sleep through an end.
        self._changed.notify_all()
        for loop, future in self._waiters:
            with suppress(RuntimeError):  # that loop was closed while its task waited
                loop.call_soon_threadsafe(_resolve, future)
        self._waiters.clear()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
