"""From threads to the event loop, with at most one wake-up on the way.

`call_soon_threadsafe` writes to a pipe each time; when several threads finish small pieces of work at once, one
wake-up can bring them all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Delivers what threads post, in order, on the event loop.

    Args:
        loop: Where `deliver` runs.
        deliver: Called with each item.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[T], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._items: deque[T] = deque()
        self._announced = False

    def post(self, item: T) -> None:
        """Have `item` delivered; from any thread. Nothing happens once the loop is closed."""
        self._items.append(item)
        if not self._announced:  # to look and to set are two steps: at worst two threads announce
            self._announced = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._open)

    def clear(self) -> None:
        """Drop what was not delivered, and what threads that are not done yet will post."""
        self._items = deque(maxlen=0)

    def _open(self) -> None:
        self._announced = False  # before looking, so that what is posted from now on is announced again
        while self._items:
            self._deliver(self._items.popleft())
