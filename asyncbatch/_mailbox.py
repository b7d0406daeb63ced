"""From threads to the event loop, with as few wake-ups as will do.

`call_soon_threadsafe` writes to a pipe each time, and each time the loop's thread fights for the interpreter with those
that decode. When several threads finish small pieces of work at once, one wake-up brings them all; and what nobody
waits for comes along with what somebody does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")

_Item = tuple[Callable[[Any], None], Any]


# Lazy items that are delivered at a time. Each is some 30 µs of Python, while decode threads wait for the interpreter.
_AT_A_TIME = 16


def _raise(error: BaseException) -> None:
    raise error


class Mailbox:
    """Delivers on the event loop what threads post, lazy items after those that are not, else in order.

    Args:
        loop: Where it is delivered.
        is_urgent: Whether somebody waits now for what is posted lazily; asked from any thread. It may say no only if
            the loop will `open` the mailbox, or something will be posted that is not lazy, before it can matter. And
            whoever makes it say yes has to `open` the mailbox after that.
        on_crash: Called with what a delivery raised, since whoever waits for what it was about would wait for ever. By
            default it is raised, and the loop's business.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        is_urgent: Callable[[], bool] = lambda: True,
        on_crash: Callable[[BaseException], None] = _raise,
    ) -> None:
        self.is_urgent = is_urgent
        self._loop = loop
        self._on_crash = on_crash
        self._items: deque[_Item] = deque()
        self._lazy: deque[_Item] = deque()
        self._announced = False

    @property
    def put_by(self) -> int:
        """How many lazy items wait."""
        return len(self._lazy)

    def post(self, deliver: Callable[[T], None], item: T, *, with_next: bool = False) -> None:
        """Have `deliver(item)` called; from any thread. Nothing happens once the loop is closed.

        Args:
            deliver: What is called on the loop.
            item: With what.
            with_next: Something else that is not lazy is posted next by this thread: that will do. Where it may be long
                until then, somebody has to `open` the mailbox meanwhile.
        """
        self._items.append((deliver, item))
        if not with_next and not self._announced:
            self._announce()

    def post_lazily(self, deliver: Callable[[list[T]], None], item: T) -> None:
        """Have `deliver` called with a list that has this item, and such as were posted with it; from any thread.

        It can wait for something else to be posted, unless it is urgent.
        """
        self._lazy.append((deliver, item))
        # The item comes before the question, so that whoever makes it urgent after the answer finds it there.
        if not self._announced and self.is_urgent():
            self._announce()

    def open(self) -> None:
        """Deliver all that is there, but of lazy items no more than a few unless they are urgent; on the loop."""
        self._announced = False  # before looking, so that what is posted from now on is announced again
        while self._items:
            self._deliver(*self._items.popleft())
        self._deliver_some()
        while self._lazy and self.is_urgent():
            self._deliver_some()

    def flush(self) -> None:
        """Deliver everything, for somebody who has to know now; on the loop."""
        self.open()
        while self._lazy:
            self._deliver_some()

    def clear(self) -> None:
        """Drop what was not delivered, and what threads that are not done yet will post."""
        self._items, self._lazy = deque(maxlen=0), deque(maxlen=0)

    def _announce(self) -> None:
        # To look and to set are two steps: at worst two threads announce.
        self._announced = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.open)

    def _deliver_some(self) -> None:
        """Deliver a few lazy items: those that are for the same, at once."""
        some: list[Any] = []
        deliver = None
        while self._lazy and len(some) < _AT_A_TIME and deliver in (None, self._lazy[0][0]):
            deliver, item = self._lazy.popleft()
            some.append(item)
        if deliver is not None:
            self._deliver(deliver, some)

    def _deliver(self, deliver: Callable[[Any], None], what: Any) -> None:
        try:
            deliver(what)
        except BaseException as error:  # noqa: BLE001 - who waits for what it was about hears of it
            self._on_crash(error)
