"""Results that a thread makes ahead of whoever takes them: copies to a device, while the caller's step runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Ahead"]

T = TypeVar("T")

_SIGNALS = 0.25  # seconds: a signal just before sleeping in the lock is noticed then; see `asyncbatch._handoff`
_STOP_TIMEOUT = 5.0  # seconds for the thread to end; it is a daemon, and left to itself after that


class Ahead(Generic[T]):
    """Calls a function over and over in a thread, and hands out what it returned, in order.

    The thread knows nothing of this object but what it shares with it, so that dropping this one can end it.

    Args:
        make: Returns the next result; `StopIteration` is the end, and any other error is raised in its turn.
        room: How many results may wait.
        name: The thread's.
    """

    def __init__(self, make: Callable[[], T], room: int, name: str) -> None:
        self._shared: _Shared[T] = _Shared(room)
        self._thread = threading.Thread(target=_run, args=(make, self._shared), name=name, daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        return self._shared.take()

    def stop(self) -> None:
        """Make nothing more; safe in a finalizer."""
        self._shared.stop()

    def join(self) -> None:
        """Wait for the thread, once whatever it waits for has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(_STOP_TIMEOUT)


class _Shared(Generic[T]):
    def __init__(self, room: int) -> None:
        self._changed = threading.Condition(threading.RLock())  # a finalizer may run inside of it
        self._room = room
        self._results: deque[T] = deque()
        self._end: BaseException | None = None

    def wait_for_room(self) -> bool:
        """Wait until one more result may be made; False if none is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._end is not None or len(self._results) < self._room)
            return self._end is None

    def put(self, result: T) -> None:
        with self._changed:
            if self._end is None:
                self._results.append(result)
                self._changed.notify_all()

    def end(self, error: BaseException) -> None:
        with self._changed:
            self._end = self._end or error
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._results.clear()
            self._end = StopIteration()
            self._changed.notify_all()

    def take(self) -> T:
        with self._changed:
            while not self._results and self._end is None:
                self._changed.wait(_SIGNALS)
            if self._results:
                result = self._results.popleft()
                self._changed.notify_all()
                return result
            error, self._end = self._end, StopIteration()
            assert error is not None  # noqa: S101 - there is a result, or it is over
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


def _run(make: Callable[[], Any], shared: _Shared[Any]) -> None:
    while shared.wait_for_room():
        try:
            result = make()
        except BaseException as error:  # noqa: BLE001 - it is the taker's, in its turn
            shared.end(error)
            return
        shared.put(result)
        del result
