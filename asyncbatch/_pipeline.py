"""Where the stages meet: planned → read → decoded → complete, all at once.

Everything here runs on the engine's event loop, except the two jobs of the decode threads, `_decode` and `_fill`, which
report back through a mailbox. Nothing is locked and nothing is awaited sample by sample in sequence:

* `_read_ahead` starts a read as soon as a lane is free and the window of bytes has room, batches ahead of decoding;
* `_open_batches` gives a batch its memory when the caller has taken enough of those before it: that is a credit;
* bytes that arrive for an open batch go straight to the decode threads, others wait for it to open;
* a batch whose last slot settled is complete, and leaves in order.

The async generator `batches` only drains; the work is done by a producer task beside it, since a generator that is
suspended inside a task group would break the group's cancellation.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from time import perf_counter
from typing import Any, Literal

from asyncbatch._assembly import Assembly, RowKind
from asyncbatch._errors import ReadError
from asyncbatch._mailbox import Mailbox
from asyncbatch._memory import BatchMemory
from asyncbatch._planning import PlannedBatch, plan_batches
from asyncbatch._stages import Stages
from asyncbatch._types import Batch, Reader, ReaderFactory, Sample, Span
from asyncbatch._window import ReadAheadWindow
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.stats import Counters

__all__ = ["Pipeline"]

# A hop to the planning thread costs some 60 µs; for so many samples that is under 1 µs each.
_PLANNED_AT_ONCE = 64

_LARGEST_GROUP = 8  # a hop costs some 30 µs: more samples a hop hardly make it cheaper, and end less evenly

_PLAN_CLOSE_TIMEOUT = 1.0  # seconds for a user's source to return; after that its daemon thread is left to itself


class Pipeline:
    """One iteration over `epochs`.

    Args:
        stages: What it is made of.
        epochs: The epochs to run through, without a pause between them.
        counters: What it did is added here.
        loop: The event loop that will run it.
        decode_pool: The decode threads; shut down without waiting when the iteration ends.
    """

    def __init__(
        self,
        stages: Stages,
        epochs: Iterable[int],
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        decode_pool: Executor,
    ) -> None:
        self._stages = stages
        self._counters = counters
        self._loop = loop
        self._decode_pool = decode_pool
        self._plan_pool = DaemonThreadPool(1, "asyncbatch-plan")
        self._plan = plan_batches(stages.source, stages.plan, epochs)
        # Samples that wait for their batch to open go to the threads in groups, which saves hops; each thread gets two.
        self._group = max(1, min(_LARGEST_GROUP, stages.plan.batch_size // (2 * stages.decode_threads)))
        self._memory = BatchMemory(spare=stages.prefetch)
        self._window = ReadAheadWindow(stages.read_ahead)
        self._lanes: asyncio.LifoQueue[int] = asyncio.LifoQueue()
        self._credits = asyncio.Semaphore(stages.prefetch)
        # Reading bounds how many planned batches wait to be opened; without it only this queue does.
        self._planned: asyncio.Queue[Assembly | None] = asyncio.Queue(0 if stages.reader else stages.prefetch)
        self._leaving: asyncio.Queue[Assembly | None] = asyncio.Queue()
        self._complete: dict[int, Assembly] = {}  # those that wait for one before them
        self._next_number = 0
        self._unfinished = 0
        self._all_planned = False
        self._doomed = False  # a batch will raise in its turn, and none that is not planned yet will be delivered
        self._crash: BaseException | None = None
        self._stopped = False
        self._opening: asyncio.Task[Any] | None = None
        self._mailbox = Mailbox(loop, self._account)

    def credit(self) -> None:
        """The caller took a batch: another may be opened."""
        self._credits.release()

    def stop(self) -> None:
        """End the iteration early. `batches` then ends as it does after the last batch, and its cleaning up is whole.

        Cancelling its task instead could break off the cleaning up that a natural end has just begun. Only the opening
        of a reader is cancelled, since that may take for ever.
        """
        if not self._stopped:
            self._stopped = True
            self._leaving.put_nowait(None)
            if self._opening is not None:
                self._opening.cancel()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Yield the batches until the last one, or until `stop`.

        Raises:
            SampleError: A sample could not be read or decoded; the batches before its own were yielded.
            SourceError: The source failed, likewise.
        """
        if self._stopped:
            return
        self._opening = asyncio.current_task()
        async with _opened(self._stages.reader) as reader:
            self._opening = None
            producer = asyncio.create_task(self._produce(reader))
            kind: RowKind | None = None
            try:
                while (assembly := await self._leaving.get()) is not None and not self._stopped:
                    batch = assembly.finish(kind)
                    kind = batch.images.shape[1:], batch.images.dtype
                    yield batch
                if self._crash is not None:
                    raise self._crash
            finally:
                producer.cancel()
                await asyncio.wait([producer])
                self._decode_pool.shutdown(wait=False, cancel_futures=True)
                await self._plan_pool.aclose(_PLAN_CLOSE_TIMEOUT)
                self._forget()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _produce(self, reader: Reader | None) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._open_batches())
                await self._read_ahead(group, reader)
                self._all_planned = True
                self._end_if_drained()
                await self._planned.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised in `batches`
            if not _is_cancelled(asyncio.current_task()):
                self._fail(error)

    async def _read_ahead(self, group: asyncio.TaskGroup, reader: Reader | None) -> None:
        for lane in range(reader.concurrency if reader else 0):
            self._lanes.put_nowait(lane)
        coming = self._plan_more()
        while batches := await coming:
            coming = self._plan_more()  # the next are planned while these are read
            for planned in batches:
                if self._doomed:
                    return
                assembly = Assembly(planned, self._stages.decoder, self._memory, self._stages.seed)
                self._unfinished += 1
                await self._planned.put(assembly)
                if reader is not None:
                    for slot, sample in enumerate(planned.samples):
                        reserved = await self._window.reserve(sample.length)
                        lane = await self._lanes.get()
                        group.create_task(self._read(reader, lane, reserved, assembly, slot, sample))

    def _plan_more(self) -> asyncio.Future[list[PlannedBatch]]:
        count = max(1, _PLANNED_AT_ONCE // self._stages.plan.batch_size)
        return self._loop.run_in_executor(self._plan_pool, lambda: list(itertools.islice(self._plan, count)))

    async def _read(
        self, reader: Reader, lane: int, reserved: int, assembly: Assembly, slot: int, sample: Sample
    ) -> None:
        start = perf_counter()
        try:
            data = await reader.read(sample)
            size = len(data)
        except BaseException as error:
            if _is_cancelled(asyncio.current_task()):
                raise
            self._window.cancel(reserved)
            if assembly.fail(slot, ReadError, error):
                self._completed(assembly)
            return
        finally:
            self._lanes.put_nowait(lane)
        stop = perf_counter()
        self._counters.bytes_read += size
        self._counters.read_seconds += stop - start
        self._record("read", start, stop, assembly, lane)
        self._window.arrive(reserved, size)
        if assembly.is_open:
            self._submit(self._decode, assembly, [(slot, data)])
        else:
            assembly.hold(slot, data)

    # -- decoding -----------------------------------------------------------------------------------------------------

    async def _open_batches(self) -> None:
        while (assembly := await self._planned.get()) is not None:
            await self._credits.acquire()
            held = assembly.open()
            for start in range(0, len(held), self._group):
                self._submit(self._decode, assembly, held[start : start + self._group])
            if assembly.planned.error is not None:
                self._completed(assembly)
            elif self._stages.reader is None:
                self._submit(self._fill, assembly)

    def _submit(self, job: Callable[..., None], *args: Any) -> None:
        self._decode_pool.submit(self._run_job, job, *args)

    def _run_job(self, job: Callable[..., None], *args: Any) -> None:
        try:
            job(*args)
        except BaseException as error:  # noqa: BLE001 - a hook's error, or ours: an executor would keep it to itself
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._fail, error)

    def _decode(self, assembly: Assembly, group: list[tuple[int, Any]]) -> None:
        while group:
            slot, data = group.pop()  # so that its bytes are not kept until the whole group is done
            start = perf_counter()
            complete = assembly.decode(slot, data)
            self._decoded(assembly, complete, len(data), start)

    def _fill(self, assembly: Assembly) -> None:
        assert self._stages.take is not None  # noqa: S101 - what has no reader has this
        start = perf_counter()
        complete = assembly.fill(self._stages.take)
        self._decoded(assembly, complete, None, start)

    def _decoded(self, assembly: Assembly, complete: bool, size: int | None, start: float) -> None:
        if complete:
            assembly.seal()
        stop = perf_counter()
        self._record("decode", start, stop, assembly)
        self._mailbox.post((assembly if complete else None, size, stop - start))

    def _account(self, done: tuple[Assembly | None, int | None, float]) -> None:
        complete_batch, size, seconds = done
        self._counters.decode_seconds += seconds
        if size is not None:
            self._window.release(size)
        if complete_batch is not None:
            self._completed(complete_batch)

    # -- leaving ------------------------------------------------------------------------------------------------------

    def _completed(self, assembly: Assembly) -> None:
        self._unfinished -= 1
        self._doomed = self._doomed or assembly.has_failed
        if self._stages.in_order:
            self._complete[assembly.planned.number] = assembly
            while (next_one := self._complete.pop(self._next_number, None)) is not None:
                self._leaving.put_nowait(next_one)
                self._next_number += 1
        else:
            self._leaving.put_nowait(assembly)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._all_planned and not self._unfinished:
            self._leaving.put_nowait(None)

    def _fail(self, error: BaseException) -> None:
        """End the iteration for an error that is no sample's: a hook's, or a mistake of this library."""
        while isinstance(error, BaseExceptionGroup):  # the task group's wrapping; the first failure cancelled the rest
            error = error.exceptions[0]
        self._crash = self._crash or error
        self._leaving.put_nowait(None)

    def _forget(self) -> None:
        """Let go of every batch: cancelled tasks leave cycles behind, and megabytes must not wait for the collector."""
        for queue in (self._planned, self._leaving):
            while not queue.empty():
                queue.get_nowait()
        self._complete.clear()
        self._mailbox.clear()
        self._memory.close()

    def _record(
        self, stage: Literal["read", "decode"], start: float, stop: float, assembly: Assembly, lane: int | None = None
    ) -> None:
        if self._stages.hooks:
            if lane is None:  # an executor's threads are called prefix_0, prefix_1, …
                lane = int(threading.current_thread().name.rpartition("_")[2])
            planned = assembly.planned
            span = Span(stage, start, stop, planned.epoch, planned.step, lane)
            for hook in self._stages.hooks:
                hook.record(span)


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Whether the iteration ends, and not just something that a reader awaited was cancelled on its own."""
    return task is not None and task.cancelling() > 0


def _opened(reader: Reader | ReaderFactory | None) -> AbstractAsyncContextManager[Reader | None]:
    return reader.open() if isinstance(reader, ReaderFactory) else nullcontext(reader)
