"""Samples that a thread reads and uses up itself, one after the other, while the storage answers at once.

Bytes from page cache or a local disk are there in some microseconds. To read them ahead, and to hand each file from
thread to event loop to thread, would cost more than reading it and, for small pictures, more than decoding it. So there
a thread gets a run of a batch's samples and makes rows of them, as a loop by hand would. A run ends early when a read
was slow, and what did not simply succeed is left to the others.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from asyncbatch._mailbox import Mailbox
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._run import Run

__all__ = ["DirectQueue"]

# Seconds of a run that the loop need not hear of at once if another waits for this thread: it hears of both together.
# With batches of tiny pictures, waking the loop and the caller up for each costs more than a quarter of all, as
# everybody then waits for the interpreter.
_SHORT = 0.003

_LATEST = 0.05  # seconds until it hears of one in any case: what follows may hang, or be a picture of 100 megapixels


class DirectQueue:
    """Runs that wait for a thread, and those under way.

    A thread goes from one run to the next by itself. All methods but those that say otherwise belong to the event loop.

    Args:
        lock: Guards what is here, and `flying`.
        flying: What is under way, other things included.
        pool: The threads.
        mailbox: From them to the loop.
        on_landed: Called with each run that ended by itself, before what it left is passed on.
        on_crash: Called with an error that is no sample's.

    Attributes:
        limit: How many runs may be under way.
    """

    def __init__(
        self,
        lock: threading.Lock,
        flying: dict[Any, None],
        pool: DaemonThreadPool,
        mailbox: Mailbox,
        on_landed: Callable[[Run], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self.limit = 1
        self._on_crash = on_crash
        self._lock = lock
        self._flying = flying
        self._pool = pool
        self._mailbox = mailbox
        self._on_landed = on_landed
        self._waiting: deque[Run] = deque()
        self._stints = 0
        self._timer: asyncio.TimerHandle | None = None
        self._free_lanes: list[int] = []  # a heap, of those below as many as ever were at once

    def put(self, run: Run) -> None:
        """Have a run carried out in its turn."""
        with self._lock:
            self._waiting.append(run)
        self._recruit()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST, self._hear)

    def withdraw(self) -> None:
        """Leave all runs that have not begun to others."""
        with self._lock:
            runs, self._waiting = list(self._waiting), deque()
            lefts = [run.left() for run in runs]
        for run, left in zip(runs, lefts, strict=True):
            run.leave(left)

    def give_up(self, run: Run, error: Exception) -> bool:
        """Wait no longer for a run: the sample that it is at gets `error`, the others are left to others.

        Returns:
            False if it has just moved on.
        """
        with self._lock:
            if run.moved is None or self._flying.pop(run, run) is run:
                return False
            run.given_up = True
            self._leave_lane(run.lane)
            left = [(place, error if place == run.place else what) for place, what in run.left()]
        if run.thread is not None:
            self._pool.give_up(run.thread)
        run.leave(left)
        self._recruit()
        return True

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """Give everybody an error of their own; threads that are under way go on, and nobody hears of them."""
        with self._lock:
            runs = [run for run in self._flying if isinstance(run, Run)]
            runs += self._waiting
            self._waiting.clear()
            lefts = [run.left() for run in runs]
            for run in runs:
                run.given_up = True
        for run, left in zip(runs, lefts, strict=True):
            run.leave([(place, what or error()) for place, what in left])

    def close(self) -> None:
        """Begin nothing any more."""
        with self._lock:
            self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _hear(self) -> None:
        self._mailbox.open()
        under_way = self._stints or self._waiting
        self._timer = asyncio.get_running_loop().call_later(_LATEST, self._hear) if under_way else None

    def _recruit(self) -> None:
        with self._lock:
            if not self._waiting or self._stints >= self.limit:
                return
            self._stints += 1
            lane = heappop(self._free_lanes) if self._free_lanes else self._stints - 1
        try:
            self._pool.submit(self._stint, lane)
        except RuntimeError:  # no thread can be started; the others know how to wait for one
            with self._lock:
                self._leave_lane(lane)
                nobody_comes = not self._stints
            if nobody_comes:
                self.withdraw()

    # -- in a thread ---------------------------------------------------------------------------------------------------

    def _stint(self, lane: int) -> None:
        run = self._next(lane)
        while run is not None:
            try:
                run.carry_out(self._lock)
            except BaseException as error:  # noqa: BLE001 - a hook's, or ours: the pool would keep it to itself
                self._mailbox.post(self._on_crash, error)
            with self._lock:
                if self._flying.pop(run, run) is run:
                    return  # given up, and this thread with it
            following = self._next(lane)
            self._mailbox.post(self._landed, run, with_next=following is not None and run.seconds < _SHORT)
            run = following

    def _next(self, lane: int) -> Run | None:
        with self._lock:
            if self._waiting and self._stints <= self.limit:
                run = self._waiting.popleft()
                run.lane = lane
                self._flying[run] = None
                return run
            self._leave_lane(lane)
            return None

    def _leave_lane(self, lane: int) -> None:
        self._stints -= 1
        heappush(self._free_lanes, lane)

    # -- on the loop again ---------------------------------------------------------------------------------------------

    def _landed(self, run: Run) -> None:
        if run.given_up:
            return
        run.on_done(run)
        self._on_landed(run)
        run.leave(run.left())
