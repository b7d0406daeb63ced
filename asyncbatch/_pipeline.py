"""Where the stages meet: planned → read → decoded → complete, all at once.

All of this runs on the engine's event loop; threads report back to it. Nothing is awaited sample by sample in sequence:

* `_read_ahead` starts a read as soon as the window of bytes has room, batches ahead of decoding (where the storage
  answers at once it starts none, and a thread reads and decodes an open batch in one go: `_runs`);
* `_open_batches` lets rows come for a batch when the caller has taken enough of those before it: that is a credit;
* bytes that arrive for an open batch go straight to the decode threads, others wait for it to open;
* a batch whose last slot settled is complete, and leaves in order;
* the place of a sample that failed, where `on_error` wants a stand-in for it, goes to `_replace_failed`.

The async generator `batches` only drains; the work is done by a producer task beside it, since a generator that is
suspended inside a task group would break the group's cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any, Self

from asyncbatch._assembly import Assembly, OnFailure
from asyncbatch._counters import Counters
from asyncbatch._credits import Credits
from asyncbatch._decode_pool import start_threads
from asyncbatch._decoding import Decoding, Done
from asyncbatch._demand import Demand
from asyncbatch._errors import ReadError
from asyncbatch._leaving import Leaving
from asyncbatch._made import Coming, Dooms, MadeBatch
from asyncbatch._mailbox import Mailbox
from asyncbatch._memory import BatchMemory
from asyncbatch._planning import PlannedBatch, Planning, StandIn
from asyncbatch._reads import Reads, opened_reads
from asyncbatch._stages import Stages
from asyncbatch._stand_ins import StandIns
from asyncbatch.decoders.opencv_threads import single_threaded_opencv
from asyncbatch.on_error import Replace, Skip
from asyncbatch.readers._pool import DaemonThreadPool

__all__ = ["Pipeline"]

# Samples. A hop to the planning thread costs some 60 µs. It is fewer at first, since a source may take long for each.
_PLANNED_AT_FIRST, _PLANNED_AT_ONCE = 64, 512

_PLAN_CLOSE_TIMEOUT = 1.0  # seconds for a user's source to return; after that its daemon thread is left to itself


class Pipeline:
    """One iteration, over the batches whose numbers it is told; a `Producer`.

    Args:
        stages: What it is made of.
        coming: Asked for the batches to come.
        dooms: Called with what failed. None: whatever fails, all are made.
        counters: What it did is added here.
        loop: The event loop that will run it.
    """

    def __init__(
        self,
        stages: Stages,
        coming: Coming,
        dooms: Dooms | None,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._stages = stages
        self._counters = counters
        self._loop = loop
        self._plan_pool = DaemonThreadPool(1, "asyncbatch-plan")
        self._planning = Planning(stages.source, stages.plan, to_error=dooms is not None)
        self._coming = coming
        self._dooms = dooms
        self._threads = ExitStack()
        self._at_once = _PLANNED_AT_FIRST
        self._memory = BatchMemory(spare=stages.prefetch)
        self._reads: Reads | None = None
        self._decoder = stages.decoder
        self._demand = demand = Demand(stages.decode_threads, stages.plan.batch_size)
        self._credits = Credits(stages.prefetch, loop, demand.has_little_to_do)
        # Reading bounds how many planned batches wait to be opened; without it only this queue does.
        self._planned: asyncio.Queue[Assembly | None] = asyncio.Queue(0 if stages.reader else stages.prefetch)
        on_error = stages.on_error
        self._stand_ins = StandIns(stages, self._plan_pool, loop)
        self._on_failure: OnFailure = (
            self._stand_ins.ask if isinstance(on_error, Replace) else "skip" if isinstance(on_error, Skip) else "raise"
        )
        self._leaving = Leaving(stages.in_order, self._is_quiet, on_drained=self._stand_ins.end)
        self._doomed = False  # a batch will raise in its turn, and none that is not planned yet will be delivered
        self._crash: BaseException | None = None
        self._stopped = False
        self._opening: asyncio.Task[Any] | None = None
        self._mailbox = demand.mailbox = Mailbox(loop, demand.is_starving, self._fail)
        self._decoding = demand.decoding = Decoding(stages, loop, self._mailbox, self._account, self._fail)

    def __enter__(self) -> Self:
        """Start the decode threads.

        Raises:
            RuntimeError: Not even one can be started.
        """
        with ExitStack() as threads:
            threads.enter_context(single_threaded_opencv())
            pool = start_threads(self._stages.decode_threads, "asyncbatch-decode")
            self._decoding.begin(threads.enter_context(pool))
            self._threads = threads.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the decode threads, which were told to end."""
        self._threads.close()

    def credit(self) -> None:
        """A batch was taken, or dropped as void: another may be opened. From any thread."""
        self._credits.give()

    def stop(self) -> None:
        """End the iteration early. `batches` then ends as it does after the last batch, and its cleaning up is whole.

        Cancelling its task instead could break off the cleaning up that a natural end has just begun. Only the opening
        of a reader is cancelled, since that may take for ever.
        """
        if not self._stopped:
            self._stopped = True
            self._leaving.end()
            if self._opening is not None:
                self._opening.cancel()

    async def batches(self) -> AsyncGenerator[MadeBatch, None]:
        """Yield the batches until the last one, or until `stop`. What fails is told by the batch that it fails for."""
        if self._stopped:
            return
        self._opening = asyncio.current_task()
        told = self._decoding, self._arrived, self._unreadable, self._fail, self._look
        async with opened_reads(self._stages, self._counters, self._mailbox, self._demand, *told) as self._reads:
            self._opening = None
            self._demand.reads = self._reads
            if self._reads is not None:
                self._decoder = self._reads.decoder
            producer = asyncio.create_task(self._produce(self._reads))
            try:
                while (assembly := await self._leaving.next()) is not None and not self._stopped:
                    yield assembly.made(self._stages.plan.steps)
                if self._crash is not None:
                    raise self._crash
            finally:
                producer.cancel()
                await asyncio.wait([producer])
                if self._reads is not None:
                    await self._reads.aclose()
                self._decoding.end()
                await self._plan_pool.aclose(_PLAN_CLOSE_TIMEOUT)
                self._forget()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _produce(self, reads: Reads | None) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._open_batches())
                if isinstance(self._stages.on_error, Replace):
                    group.create_task(self._replace_failed(group, reads))
                await self._read_ahead(reads)
                self._leaving.expect_no_more()
                await self._planned.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised in `batches`
            if (task := asyncio.current_task()) is None or not task.cancelling():
                self._fail(error)

    async def _read_ahead(self, reads: Reads | None) -> None:
        coming = asyncio.create_task(self._plan_more())
        try:
            while batches := await coming:
                coming = asyncio.create_task(self._plan_more())  # the next are planned while these are read
                for planned in batches:
                    if self._doomed:
                        return
                    assembly = Assembly(planned, self._decoder, self._memory, self._stages.seed, self._on_failure)
                    self._leaving.expect()
                    await self._planned.put(assembly)
                    if reads is not None:
                        await reads.ask_for_all(assembly)
        finally:
            coming.cancel()

    async def _plan_more(self) -> list[PlannedBatch]:
        batches, self._at_once = max(1, self._at_once // self._stages.plan.batch_size), _PLANNED_AT_ONCE
        numbers = await self._coming(batches)
        return await self._loop.run_in_executor(self._plan_pool, self._planning.next, numbers) if numbers else []

    def _arrived(self, assembly: Assembly, slot: int, data: Any) -> None:
        if assembly.is_open:
            self._decoding.decode(assembly, [(slot, data)])
        else:
            assembly.hold(slot, data)

    def _unreadable(self, assembly: Assembly, slot: int, error: BaseException) -> None:
        if assembly.fail(slot, ReadError, error):
            self._complete(assembly)
        del assembly  # see `Assembly.fail`

    async def _replace_failed(self, group: asyncio.TaskGroup, reads: Reads | None) -> None:
        """Find a stand-in for each slot whose sample failed, until every batch is complete."""
        async for assembly, slot in self._stand_ins.asked():
            group.create_task(self._replace(reads, assembly, slot))

    async def _replace(self, reads: Reads | None, assembly: Assembly, slot: int) -> None:
        drawn = await self._stand_ins.draw(assembly, slot)
        if not isinstance(drawn, StandIn):
            if assembly.give_up(slot, drawn):
                self._complete(assembly)
            return
        assembly.seating.seat(slot, drawn)
        if reads is None:
            self._decoding.fill(assembly, slot)
        else:
            reads.ask_at_once(assembly, slot, drawn.sample)

    # -- decoding -----------------------------------------------------------------------------------------------------

    async def _open_batches(self) -> None:
        while (assembly := await self._planned.get()) is not None:
            await self._credits.take()
            if assembly.is_void and assembly.planned.error is None:  # it will not be delivered, and needs no memory
                continue
            held = assembly.open()
            self._demand.incomplete += 1
            for start in range(0, len(held), self._decoding.group):  # those that waited for their batch to open
                self._decoding.decode(assembly, held[start : start + self._decoding.group])
            if assembly.planned.error is not None:
                self._completed(assembly)
            elif self._stages.reader is None:
                self._decoding.fill(assembly)
            if self._reads is not None:
                self._reads.opened(assembly)
            self._mailbox.open()  # what came for this batch is urgent now

    def _account(self, done: Done) -> None:
        complete_batch, sizes, seconds = done
        self._counters.decode_seconds += seconds
        if self._reads is not None and sizes:
            self._reads.window.release(sizes)
            self._demand.decoded(len(sizes))
        if complete_batch is not None:
            self._completed(complete_batch)
        if self._reads is not None and self._demand.stands_still():
            self._reads.hurry()
        self._look()

    def _look(self) -> None:
        """Do what may have waited until a thread told what it did."""
        self._credits.look()
        self._leaving.look()

    def _is_quiet(self) -> bool:
        return not self._decoding.jobs and (self._reads is None or not self._reads.runs_under_way)

    # -- leaving ------------------------------------------------------------------------------------------------------

    def _complete(self, assembly: Assembly) -> None:
        """Seal a batch that was completed here on the loop, if there is something to seal, and let it leave."""
        if assembly.is_open and not assembly.will_raise:
            self._decoding.seal(assembly)
        else:
            self._completed(assembly)

    def _completed(self, assembly: Assembly) -> None:
        self._demand.incomplete -= assembly.is_open
        if self._dooms is not None:
            too_many = self._dooms(assembly.planned.epoch, len(assembly.seating.failures))
            self._doomed = self._doomed or assembly.will_raise or too_many
        self._leaving.complete(assembly)

    def _fail(self, error: BaseException) -> None:
        """End the iteration for an error that is no sample's: a hook's, or a mistake of this library."""
        while isinstance(error, BaseExceptionGroup):  # the task group's wrapping; the first failure cancelled the rest
            error = error.exceptions[0]
        self._crash = self._crash or error
        self._leaving.end()

    def _forget(self) -> None:
        """Let go of every batch: cancelled tasks leave cycles behind, and megabytes must not wait for the collector."""
        while not self._planned.empty():
            self._planned.get_nowait()
        self._leaving.clear()
        self._stand_ins.clear()
        self._decoding.clear()
        self._memory.close()
        self._reads, self._decoder, self._demand.reads = None, None, None  # see `Reads.aclose`
