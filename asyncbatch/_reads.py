"""The bytes of planned samples: asked of the reader as room for them comes, and handed on as they arrive.

Most reads succeed at once, and for these a task each would cost more than all else that is done for them on the loop.
So a reader that can `begin` a read, as ours can, is asked with a callback; only what does not go well becomes a task,
and every read of a reader that has no more than the coroutine `read`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from asyncbatch._assembly import Assembly
from asyncbatch._counters import Counters
from asyncbatch._decoding import Decoding
from asyncbatch._demand import Demand
from asyncbatch._keeping import Kept
from asyncbatch._mailbox import Mailbox
from asyncbatch._restoring import Restoring
from asyncbatch._runs import Runs
from asyncbatch._spans import Lanes, record
from asyncbatch._stages import Stages
from asyncbatch._types import ReadCounters, Reader, Sample, Span
from asyncbatch._window import ReadAheadWindow, Room
from asyncbatch.readers._first_try import GoOn, Timed
from asyncbatch.readers._opened import opened
from asyncbatch.readers._pool import in_thread
from asyncbatch.readers._whole import Content, Outcome
from asyncbatch.readers.cache import OpenCachingReader
from asyncbatch.readers.files import OpenFileReader
from asyncbatch.readers.objects import OpenObjectReader

__all__ = ["Reads", "opened_reads"]


@dataclass(slots=True, eq=False)
class _Read:
    """One sample's read."""

    assembly: Assembly
    slot: int
    sample: Sample
    room: Room
    start: float

    def begun(self) -> None:
        """Hear that it has waited for its turn until now."""
        self.start = perf_counter()


class Reads:
    """The reads of one iteration; belongs to the event loop.

    Args:
        reader: What reads. It is asked for as many samples at once as it carries out, and as wait in a queue of its
            own.
        stages: What the pipeline is made of.
        counters: What was read is added here.
        on_data: Called with batch, slot and bytes.
        on_failure: Called with batch, slot and error.
        on_crash: Called with an error that is no sample's: a hook's, or a mistake of this library.
        on_run_ended: Called when a thread has read and decoded samples in one go.
        decoding: Decodes samples, also in the thread that read them.
        kept: Rows that need not be read.

    Attributes:
        decoder: What makes rows of the bytes.
        window: How far ahead reading is. Whoever has used up the bytes has to `release` them.
    """

    def __init__(
        self,
        reader: Reader,
        stages: Stages,
        counters: Counters,
        on_data: Callable[[Assembly, int, Any], None],
        on_failure: Callable[[Assembly, int, BaseException], None],
        on_crash: Callable[[BaseException], None],
        on_run_ended: Callable[[], None],
        decoding: Decoding,
        kept: Kept | None,
    ) -> None:
        self.decoder = stages.decoder if kept is None else kept.decoder
        self._restoring = None if kept is None else Restoring(kept, decoding, self._read_after_all)
        self._reader: Any = reader
        # Others may have words of their own for other things.
        self._begin = reader.begin if isinstance(reader, OpenFileReader) else None
        self._read_timed = reader.timed_read if isinstance(reader, OpenCachingReader | OpenObjectReader) else None
        self._hooks = stages.hooks
        self._counters = counters
        self._on_data = on_data
        self._on_failure = on_failure
        self._on_crash = on_crash
        queue = reader.queue if isinstance(reader, OpenFileReader) else None
        # A reader without a queue gets at once as many as it says that it carries out: it may wait for them.
        limit = stages.read_ahead
        self.window = ReadAheadWindow(limit) if queue else ReadAheadWindow(limit, reader.concurrency)
        counters.window = self.window
        self._lanes = Lanes(stages.decode_threads if queue else 0)  # the lanes before are those of runs
        self._free = queue or reader.concurrency  # how many more may be asked for
        self._one_ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._runs: Runs | None = None
        if isinstance(reader, OpenFileReader):
            self._runs = Runs(reader, stages, counters, self.window, decoding.use, self._take_up, on_run_ended)

    @property
    def kept(self) -> ReadCounters | None:
        """What the cache of rows had; None without one."""
        return None if self._restoring is None else self._restoring.counters

    @property
    def runs_under_way(self) -> int:
        """How many threads are to read and decode samples in one go, or do so, as far as the loop has heard."""
        runs = self._runs  # asked for from other threads, too
        return 0 if runs is None else runs.under_way

    async def ask_for_all(self, assembly: Assembly) -> None:
        """Have all samples of a batch read, in whichever way is the fastest; returns when that was asked for."""
        samples = assembly.planned.samples
        slots = range(len(samples)) if self._restoring is None else await self._restoring.take(assembly)
        if len(slots) < len(samples) or self._runs is None or not await self._runs.take(assembly):
            for slot in slots:
                sample = samples[slot]
                room = self._room_if_free(assembly, slot, sample) or await self._room_in_turn(assembly, slot, sample)
                self._begin_read(assembly, slot, sample, room)

    def opened(self, assembly: Assembly) -> None:
        """Hear that a batch waits for nothing but its samples from now on."""
        self.window.opened(assembly)
        if self._runs is not None:
            self._runs.opened(assembly)
        if self._restoring is not None:
            self._restoring.opened(assembly)

    def hurry(self) -> None:
        """Hear that nothing can be decoded before something more is read."""
        if isinstance(self._reader, OpenFileReader | OpenCachingReader):
            self._reader.hurry()

    def ask_at_once(self, assembly: Assembly, slot: int, sample: Sample) -> None:
        """Have a sample read for a slot without waiting for room, and before all that is only read ahead.

        The batch that it is for may be the next to leave, and those that fill the window wait behind it.
        """
        self._begin_read(assembly, slot, sample, self._room_now(assembly, slot, sample), urgent=True)

    def _room_if_free(self, assembly: Assembly, slot: int, sample: Sample) -> Room | None:
        place = assembly.planned.place, slot
        return self.window.reserve_if_free(sample.length, assembly, place) if self._free > 0 else None

    async def _room_in_turn(self, assembly: Assembly, slot: int, sample: Sample) -> Room:
        room = await self.window.reserve(sample.length, assembly, (assembly.planned.place, slot))
        while self._free <= 0:
            self._one_ended.clear()
            await self._one_ended.wait()
        return room

    def _room_now(self, assembly: Assembly, slot: int, sample: Sample) -> Room:
        return self.window.reserve_now(sample.length, assembly, (assembly.planned.place, slot))

    def _begin_read(self, assembly: Assembly, slot: int, sample: Sample, room: Room, *, urgent: bool = False) -> None:
        read = self._new(assembly, slot, sample, room)
        if self._begin is None:
            timed = self._read_timed
            read_it = self._reader.read if timed is None else partial(timed, urgent=urgent)
            go_on: GoOn | None = partial(read_it, read.sample)
        else:
            go_on = self._begin(read.sample, read.room, partial(self._hear, read), urgent=urgent)
        if go_on is not None:
            self._employ(self._carry_out(read, go_on))

    def _take_up(self, assembly: Assembly, slot: int, known: Outcome | BaseException | None) -> None:
        """Read a sample that a run left, of which the storage may have said something already."""
        if self._closed:
            return
        sample = assembly.planned.samples[slot]
        if known is None:
            self.ask_at_once(assembly, slot, sample)
        else:
            read = self._new(assembly, slot, sample, self._room_now(assembly, slot, sample))
            self._employ(self._carry_out(read, self._reader.go_on(sample, read.room, known)))

    def _read_after_all(self, assembly: Assembly, slot: int) -> None:
        self._take_up(assembly, slot, None)

    def _new(self, assembly: Assembly, slot: int, sample: Sample, room: Room) -> _Read:
        self._free -= 1
        return _Read(assembly, slot, sample, room, perf_counter())

    def _ended(self) -> None:
        self._free += 1
        self._one_ended.set()

    async def aclose(self) -> None:
        """End: nobody hears of what is still under way."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.window.close()
        if self._counters.window is self.window:  # the next iteration's may be there already
            self._counters.window = None
        # Rows that are kept close with the last reference to them: they must not wait for the collector either.
        self.decoder = self._restoring = self._runs = None

    def _hear(self, read: _Read, content: Content | None, go_on: GoOn | None) -> None:
        """Take the bytes of a read that was begun, or go on with one that did not simply succeed."""
        if self._closed:
            return
        if go_on is not None:
            self._employ(self._carry_out(read, go_on))
            return
        assert content is not None  # noqa: S101 - it is one or the other
        try:
            self._arrived(read, content.data, content.began, content.ended)
        except BaseException as error:  # noqa: BLE001 - a hook's, or ours; whoever calls this has others to tell
            self._on_crash(error)

    def _employ(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._employed)

    def _employed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(error)

    async def _carry_out(self, read: _Read, go_on: GoOn) -> None:
        try:
            data: Any = await go_on()
            began, ended = read.start, perf_counter()
            if isinstance(data, Timed):
                data, began, ended = data.data, data.began, data.ended
            len(data)  # of a user's reader it may be anything
        except BaseException as error:
            if self._closed:  # and it was not just something that the reader awaited that was cancelled on its own
                raise
            self.window.cancel(read.room)
            self._ended()
            self._on_failure(read.assembly, read.slot, error)
            del read  # see `Assembly.fail`
        else:
            self._arrived(read, data, began, ended)

    def _arrived(self, read: _Read, data: Any, began: float | None, ended: float) -> None:
        self._ended()
        read.assembly.read_at = max(read.assembly.read_at, ended)
        self.window.arrive(read.room, len(data))
        if began is not None:
            self._counters.read((ended - began,), (read.sample,), len(data))
            if self._hooks:
                planned, lane = read.assembly.planned, self._lanes.lane(began, ended)
                record(self._hooks, Span("read", began, ended, planned.epoch, planned.step, lane))
        self._on_data(read.assembly, read.slot, data)


@asynccontextmanager
async def opened_reads(
    stages: Stages,
    counters: Counters,
    mailbox: Mailbox,
    demand: Demand,
    decoding: Decoding,
    on_data: Callable[[Assembly, int, Any], None],
    on_failure: Callable[[Assembly, int, BaseException], None],
    on_crash: Callable[[BaseException], None],
    on_run_ended: Callable[[], None],
) -> AsyncGenerator[Reads | None]:
    """Open what reads, and what was kept, for one iteration; None where nothing is read.

    Args:
        stages: What the pipeline is made of.
        counters: What was read is added here.
        mailbox: The pipeline's, from threads to the loop.
        demand: Tells how many reads are of use.
        decoding: As `Reads` has it, and what comes after it.
        on_data: Of `Reads`.
        on_failure: Of `Reads`.
        on_crash: Of `Reads`.
        on_run_ended: Of `Reads`.
    """
    async with opened(stages.reader, mailbox, demand.wants_more, on_crash, demand.pace) as reader:
        reads = None
        if reader is not None:
            kept = None
            if stages.keep is not None:
                kept = await in_thread(stages.keep.open, "asyncbatch-cache")
            reads = Reads(reader, stages, counters, on_data, on_failure, on_crash, on_run_ended, decoding, kept)
            del kept  # it closes with the last reference to it
        with counters.reads.watching(reader, None if reads is None else reads.kept):
            yield reads
