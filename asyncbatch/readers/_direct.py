"""Samples that a thread reads and uses up itself, one after the other, while the storage answers at once.

Bytes from page cache or a local disk are there in some microseconds. To read them ahead, and to hand each file from
thread to event loop to thread, would cost more than reading it and, for small pictures, more than decoding it. So there
a thread gets a run of a batch's samples and makes rows of them, as a loop by hand would. A run ends early when a read
was slow, and what did not simply succeed is left to the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from mmap import mmap
from time import monotonic, perf_counter, thread_time
from typing import Any

from asyncbatch._mailbox import Mailbox
from asyncbatch._types import Sample
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._whole import Content, Hop, Outcome

__all__ = ["DirectQueue", "Left", "Run"]

_SLOW = 0.02  # seconds of one read after which a run ends: four times what waiting for the interpreter may take

_SMALL = 2**20  # bytes of a file that need no budget: there are a few threads, and each has one file at a time

Left = tuple[int, Outcome | BaseException | None]
"""A sample's place in its run, and what came of reading it; None where it was not read."""


class Run(Hop):
    """Samples of one batch, for one thread.

    Args:
        samples: What to read.
        use: Called in the thread with a sample's place, its bytes, and when reading began and ended.
        is_well: Tells of a file that was read whether it is what it was before, or raises.
        borrow: Asked for room for a large file.
        give_back: Gives it back.
        on_left: Called on the event loop with what was not used up.
        on_done: Called on it when the run has ended by itself, before that.
        batch: Whatever the caller wants to know the run by.

    Attributes:
        place: What it is at.
        began: When the latest read began, in seconds of `time.monotonic`.
        moved: As `Hop` has it; None while what was read is used up, which is not the storage's time.
        count: How many samples were read.
        size: Their bytes.
        times: How long each took to read, in seconds.
        use_seconds: How long using them up took.
        cpu_seconds: How much of all that this thread was computing.
    """

    __slots__ = (
        "batch", "borrow", "count", "cpu_seconds", "give_back", "is_well", "on_done", "on_left", "place",
        "size", "troubles", "use", "use_seconds",
    )  # fmt: skip

    def __init__(
        self,
        samples: Sequence[Sample],
        use: Callable[[int, bytes | mmap, float, float], None],
        *,
        is_well: Callable[[str, Content], None],
        borrow: Callable[[int], bool],
        give_back: Callable[[int], None],
        on_left: Callable[[Run, list[Left]], None],
        on_done: Callable[[Run], None],
        batch: Any,
        max_size: int,
        devices: Mapping[int, str],
    ) -> None:
        super().__init__(samples, (), max_size, devices)
        self.use = use
        self.is_well = is_well
        self.borrow = borrow
        self.give_back = give_back
        self.on_left = on_left
        self.on_done = on_done
        self.batch = batch
        self.place = -1
        self.count = 0
        self.size = 0
        self.use_seconds = self.cpu_seconds = 0.0
        self.troubles: list[Left] = []

    def claim(self, size: int) -> bool:
        """Take room for a file, as `Room` has it."""
        return size <= _SMALL or self.borrow(size)

    async def wait(self, size: int) -> None:
        """Never: what gets no room is left to others."""
        raise NotImplementedError

    def carry_out(self, lock: threading.Lock) -> None:
        """Read and use up the samples until one is slow; in a thread.

        Args:
            lock: Held whenever it becomes this thread's or the event loop's business what happens to a sample.
        """
        self.thread = threading.current_thread()
        cpu = thread_time()
        for place, sample in enumerate(self.parts):
            start = perf_counter()
            if not self._goes_on(lock, place, monotonic()):
                return
            outcome = self.result(sample, self)
            stop = perf_counter()
            if not self._goes_on(lock, place, None):
                return
            self.count += 1
            self.times.append(stop - start)
            self._take(place, sample, outcome, start, stop)
            del outcome
            self.use_seconds += perf_counter() - stop
            if stop - start > _SLOW:
                break
        self.cpu_seconds = thread_time() - cpu

    def _goes_on(self, lock: threading.Lock, place: int, moved: float | None) -> bool:
        """Say where it is; False if it was given up."""
        with lock:
            if self.given_up:
                return False
            self.place, self.moved = place, moved
            self.began = moved or self.began
            return True

    def left(self) -> list[Left]:
        """Return what was not used up so far, and is nobody's business; with the lock."""
        first = self.place + (self.moved is None)
        return [*self.troubles, *((place, None) for place in range(first, len(self.parts)))]

    def leave(self, left: list[Left]) -> None:
        """Pass on what was not used up, and let go of the batch: frames that an error refers to may keep this run."""
        if left:
            self.on_left(self, left)
        self.batch, self.parts, self.troubles = None, (), []
        self.use = self.on_left = self.on_done = _nothing

    def _take(self, place: int, sample: Any, outcome: Outcome | Exception, start: float, stop: float) -> None:
        if not isinstance(outcome, Content) or outcome.touched:
            self.troubles.append((place, outcome))
            return
        size = len(outcome.data)
        self.size += size
        try:
            self.is_well(sample.path, outcome)
        except Exception as error:  # noqa: BLE001 - its fate decides, like that of any other
            self.troubles.append((place, error))
        else:
            self.use(place, outcome.data, start, stop)
        finally:
            if size > _SMALL:
                self.give_back(size)


def _nothing(*_: Any) -> None:
    pass


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

    def put(self, run: Run) -> None:
        """Have a run carried out in its turn."""
        with self._lock:
            self._waiting.append(run)
        self._recruit()

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
            self._stints -= 1
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

    def _recruit(self) -> None:
        with self._lock:
            if not self._waiting or self._stints >= self.limit:
                return
            self._stints += 1
        try:
            self._pool.submit(self._stint)
        except RuntimeError:  # no thread can be started; the others know how to wait for one
            with self._lock:
                self._stints -= 1
                nobody_comes = not self._stints
            if nobody_comes:
                self.withdraw()

    # -- in a thread ---------------------------------------------------------------------------------------------------

    def _stint(self) -> None:
        while (run := self._next()) is not None:
            try:
                run.carry_out(self._lock)
            except BaseException as error:  # noqa: BLE001 - a hook's, or ours: the pool would keep it to itself
                self._mailbox.post(self._on_crash, error)
            with self._lock:
                if self._flying.pop(run, run) is run:
                    return  # given up, and this thread with it
            self._mailbox.post(self._landed, run)

    def _next(self) -> Run | None:
        with self._lock:
            if self._waiting and self._stints <= self.limit:
                run = self._waiting.popleft()
                self._flying[run] = None
                return run
            self._stints -= 1
            return None

    # -- on the loop again ---------------------------------------------------------------------------------------------

    def _landed(self, run: Run) -> None:
        if run.given_up:
            return
        run.on_done(run)
        self._on_landed(run)
        run.leave(run.left())
