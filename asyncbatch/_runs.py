"""Batches whose samples are not read ahead: while the storage answers at once, a thread reads and decodes them in turn.

Batches are taken on as they are planned, begun as they are opened, and cut into as many runs as threads are of use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asyncbatch._assembly import Assembly
from asyncbatch._counters import Counters
from asyncbatch._stages import Stages
from asyncbatch._window import ReadAheadWindow
from asyncbatch.readers._run import Left, Run, Use
from asyncbatch.readers.files import OpenFileReader

__all__ = ["Runs"]


class Runs:
    """The batches of one iteration that are read directly; belongs to the event loop.

    Args:
        reader: What reads.
        stages: What the pipeline is made of.
        counters: What was read and decoded is added here.
        window: Where large files get room.
        use: Decodes a sample, in the thread that read it.
        on_left: Called with a batch, a slot and what is known of its sample, if it has to be read otherwise.
        on_ended: Called when there is a run less under way.

    Attributes:
        under_way: How many runs wait for a thread, or have one, or have ended and the loop has not heard of it.
    """

    def __init__(
        self,
        reader: OpenFileReader,
        stages: Stages,
        counters: Counters,
        window: ReadAheadWindow,
        use: Use,
        on_left: Callable[[Assembly, int, Any], None],
        on_ended: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._threads = stages.useful_threads
        self._counters = counters
        self._window = window
        self._use = use
        self._on_left = on_left
        self._on_ended = on_ended
        self.under_way = 0
        self._taken: set[Assembly] = set()
        self._most = stages.prefetch
        self._fewer = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._read_seconds = self._use_seconds = 0.0

    async def take(self, assembly: Assembly) -> bool:
        """Take a batch on if that is the faster way; returns once few enough wait to be opened."""
        if not self._reader.answers_at_once or assembly.planned.error is not None:
            return False
        self._taken.add(assembly)
        while len(self._taken) > self._most:
            self._fewer.clear()
            await self._fewer.wait()
        return True

    def opened(self, assembly: Assembly) -> None:
        """Begin a batch that was taken on."""
        if assembly not in self._taken:
            return
        self._taken.remove(assembly)
        self._fewer.set()
        samples = assembly.planned.samples
        if not self._reader.answers_at_once:  # any more
            for slot in range(len(samples)):
                self._on_left(assembly, slot, None)
            return
        together = self._read_seconds + self._use_seconds
        assembly.reading = self._read_seconds / together if together else 0.5
        threads = self._threads.count
        size = -(-len(samples) // threads)
        for start in range(0, len(samples), size):
            self.under_way += 1
            self._reader.run(
                samples[start : start + size],
                self._use,
                threads=threads,
                borrow=self._window.borrow,
                give_back=self._give_back,
                on_left=self._left,
                on_done=self._done,
                batch=assembly,
                first=start,
            )

    def _done(self, run: Run) -> None:
        if run.used:
            samples = run.batch.planned.samples
            self._counters.read(
                [run.times[place] for place in run.used], [samples[run.first + place] for place in run.used], run.size
            )
        self._counters.direct += len(run.used)
        self._counters.decode_seconds += run.use_seconds
        self._read_seconds += sum(run.times)
        self._use_seconds += run.use_seconds
        if run.count == len(run.parts):
            self._threads.ran(run.count, run.cpu_seconds, run.seconds, run.threads)

    def _give_back(self, size: int) -> None:
        """Give room back, in a thread, and let the loop see who waits for it."""
        self._window.give_back(size)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._window.look)

    def _left(self, run: Run, left: list[Left]) -> None:
        self.under_way -= 1
        for place, what in left:
            self._on_left(run.batch, run.first + place, what)
        self._on_ended()
