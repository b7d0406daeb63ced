"""Samples of one batch that a thread reads and uses up itself, one after the other; see `_direct`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from mmap import mmap
from time import monotonic, perf_counter, thread_time
from typing import Any

from asyncbatch._types import Sample
from asyncbatch.readers._whole import Content, Hop, Outcome

__all__ = ["Left", "Run", "Use"]

_SLOW = 0.02  # seconds of one read after which a run ends: four times what waiting for the interpreter may take

_SMALL = 2**20  # bytes of a file that need no budget: there are a few threads, and each has one file at a time

Use = Callable[[Any, int, bytes | mmap, float, float, int], None]
"""Takes the batch, a sample's slot in it, its bytes, when reading began and ended, and the lane."""

Left = tuple[int, Outcome | BaseException | None]
"""A sample's place in its run, and what came of reading it; None where it was not read."""


class Run(Hop):
    """Samples of one batch, for one thread.

    Args:
        samples: What to read.
        use: Called in the thread with each sample.
        is_well: Tells of a file that was read whether it is what it was before, or raises.
        borrow: Asked for room for a large file.
        give_back: Gives it back.
        on_left: Called on the event loop, once, with what was not used up.
        on_done: Called on it when the run has ended by itself, before that.
        batch: What they are of.
        first: The slot of the first of them.
        threads: How many carry out runs like this one at once.

    Attributes:
        lane: Which of the runs under way together it is, counted from 0.
        place: What it is at.
        borrowed: Room that its file has, in bytes; none of it where the file is small.
        began: When the latest read began, in seconds of `time.monotonic`.
        moved: As `Hop` has it; None while what was read is used up, which is not the storage's time.
        count: How many samples were read.
        size: Their bytes.
        times: How long each took to read, in seconds.
        used: The places of those that were used up.
        use_seconds: How long using them up took.
        broken_off: Whether it ended at a slow read.
        seconds: How long all of it took, if it came to its end.
        cpu_seconds: How much of that this thread was computing.
    """

    __slots__ = (
        "batch", "borrow", "borrowed", "broken_off", "count", "cpu_seconds", "first", "give_back", "is_well", "lane",
        "on_done", "on_left", "place", "seconds", "size", "threads", "troubles", "use", "use_seconds", "used",
    )  # fmt: skip

    def __init__(
        self,
        samples: Sequence[Sample],
        use: Use,
        *,
        is_well: Callable[[str, Content], None],
        borrow: Callable[[int], bool],
        give_back: Callable[[int], None],
        on_left: Callable[[Run, list[Left]], None],
        on_done: Callable[[Run], None],
        batch: Any,
        first: int,
        threads: int,
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
        self.first = first
        self.threads = threads
        self.lane = 0
        self.place = -1
        self.borrowed = 0
        self.broken_off = False
        self.count = 0
        self.size = 0
        self.use_seconds = self.seconds = self.cpu_seconds = 0.0
        self.troubles: list[Left] = []
        self.used: list[int] = []

    def claim(self, size: int) -> bool:
        """Take room for a file, as `Claimant` has it."""
        if size <= _SMALL:
            return True
        self.borrowed = size if self.borrow(size) else 0
        return bool(self.borrowed)

    def carry_out(self, lock: threading.Lock) -> None:
        """Read and use up the samples until one is slow; in a thread.

        Args:
            lock: Held whenever it becomes this thread's or the event loop's business what happens to a sample.
        """
        self.thread = threading.current_thread()
        cpu, began = thread_time(), perf_counter()
        for place, sample in enumerate(self.parts):
            with lock:
                if self.given_up:
                    return
                self.place, self.began = place, monotonic()
                self.moved = self.began
            start = perf_counter()
            outcome = self.result(sample, self)
            stop = perf_counter()
            with lock:
                goes_on = not self.given_up
                self.moved = None
                use, batch = self.use, self.batch  # of a sample that is ours from now on, whatever becomes of others
                if goes_on:
                    self.count += 1
                    self.times.append(stop - start)
                data = self._approved(place, sample, outcome) if goes_on else None
            if data is not None:
                use(batch, self.first + place, data, start, stop, self.lane)
            del outcome, data, use, batch  # see `Assembly.fail`
            if self.borrowed:
                self.give_back(self.borrowed)
                self.borrowed = 0
            if not goes_on:
                return
            self.use_seconds += perf_counter() - stop
            self.broken_off = stop - start > _SLOW
            if self.broken_off:
                break
        self.cpu_seconds, self.seconds = thread_time() - cpu, perf_counter() - began

    def left(self) -> list[Left]:
        """Return what was not used up so far, and is nobody's business; with the lock."""
        first = self.place + (self.moved is None)
        return [*self.troubles, *((place, None) for place in range(first, len(self.parts)))]

    def leave(self, left: list[Left]) -> None:
        """Pass on what was not used up, and let go of the batch: frames that an error refers to may keep this run."""
        self.on_left(self, left)
        self.batch, self.parts, self.troubles = None, (), []
        self.use = self.on_left = self.on_done = _nothing

    def _approved(self, place: int, sample: Any, outcome: Outcome | Exception) -> bytes | mmap | None:
        if not isinstance(outcome, Content) or outcome.touched:
            self.troubles.append((place, outcome))
            return None
        try:
            self.is_well(sample.path, outcome)
        except Exception as error:  # noqa: BLE001 - its fate decides, like that of any other
            self.troubles.append((place, error))
            return None
        self.used.append(place)
        self.size += len(outcome.data)
        return outcome.data


def _nothing(*_: Any) -> None:
    pass
