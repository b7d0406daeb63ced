"""The jobs of the decode threads: rows of bytes, of a source in memory or of items, and whole batches to be sealed.

They report back to the event loop through a mailbox.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from mmap import mmap
from time import perf_counter
from typing import Any

from asyncbatch._assembly import Assembly
from asyncbatch._errors import ReadError
from asyncbatch._keeping import Kept
from asyncbatch._mailbox import Mailbox
from asyncbatch._spans import record
from asyncbatch._stages import Stages
from asyncbatch._types import Indices, Span

__all__ = ["Damaged", "Decoding", "Done"]

_LARGEST_GROUP = 8  # a hop costs some 30 µs: more samples a hop hardly make it cheaper, and end less evenly

Done = tuple[Assembly | None, Sequence[int], float]
"""The batch that a job completed, the sizes of the bytes that it used up, and the seconds that it took."""

Damaged = tuple[Assembly, Sequence[int]]
"""A batch, and its slots whose rows are not what they were when they were kept."""


class Decoding:
    """Gives jobs to the decode threads; belongs to the event loop.

    Args:
        stages: What the pipeline is made of.
        loop: The engine's event loop.
        mailbox: From the threads to it.
        on_done: Called on it with what each job did.
        on_crash: Called on it with an error that is no sample's: a hook's, or a mistake of this library.

    Attributes:
        jobs: How many are queued or under way.
        group: How many samples of a batch, where all are there to be worked on, are best given at once.
    """

    def __init__(
        self,
        stages: Stages,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        on_done: Callable[[Done], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._stages = stages
        self._loop = loop
        self._on_crash = on_crash
        self._on_done = on_done
        self._mailbox = mailbox
        self._pool: Executor
        self.jobs = 0
        # Samples go to the threads in groups where there are several, which saves hops; each thread gets two.
        self.group = max(1, min(_LARGEST_GROUP, stages.plan.batch_size // (2 * stages.decode_threads)))
        self._ended = False

    def begin(self, pool: Executor) -> None:
        """Hear of the threads, before the first job."""
        self._pool = pool

    def decode(self, assembly: Assembly, group: list[tuple[int, Any]]) -> None:
        """Have rows made of the bytes of several slots, one after the other."""
        self._submit(self._decode, assembly, group)

    def use(self, assembly: Assembly, slot: int, data: Any, began: float, read: float, lane: int) -> None:
        """Decode a sample in the thread that read it."""
        hooks = self._stages.hooks
        if hooks:
            record(hooks, Span("read", began, read, assembly.planned.epoch, assembly.planned.step, lane))
        complete = assembly.decode(slot, bytes(data) if isinstance(data, mmap) else data)
        if hooks:
            record(hooks, Span("decode", read, perf_counter(), assembly.planned.epoch, assembly.planned.step, lane))
        if complete:
            assembly.seal()
            self._mailbox.post(self._on_done, (assembly, (), 0.0), with_next=True)  # as the run says itself
        del assembly, data  # see `Assembly.fail`

    def fill(self, assembly: Assembly, stand_in: int | None = None) -> None:
        """Have a batch filled from a source in memory or of items, or only the slot of a stand-in."""
        if self._stages.fetch is None:
            self._submit(self._fill, assembly, stand_in)
            return
        slots = [*range(len(assembly.planned.samples))] if stand_in is None else [stand_in]
        for start in range(0, len(slots), self.group):
            self._submit(self._fetch, assembly, slots[start : start + self.group])

    def restore(self, assembly: Assembly, slots: Indices, kept: Kept, on_damaged: Callable[[Damaged], None]) -> None:
        """Have slots filled with rows that were kept; those that are damaged are told, and stay empty."""
        size = len(slots) if kept.is_ready else self.group
        for start in range(0, len(slots), size):
            self._submit(self._restore, assembly, slots[start : start + size], kept, on_damaged)

    def seal(self, assembly: Assembly) -> None:
        """Have a batch sealed that no job completed."""
        self._submit(self._seal, assembly)

    def end(self) -> None:
        """Drop the jobs that have not begun, without waiting for the others."""
        self._ended = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def clear(self) -> None:
        """Let go of every batch."""
        self._mailbox.clear()

    def _submit(self, job: Callable[..., None], *args: Any) -> None:
        self.jobs += 1
        self._pool.submit(self._run, job, [*args])

    # These let go of the batch before they return, and the executor has never known it: see `Assembly.fail`.

    def _run(self, job: Callable[..., None], args: list[Any]) -> None:
        try:
            job(args)
        except BaseException as error:  # noqa: BLE001 - a hook's error, or ours: an executor would keep it to itself
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_crash, error)

    def _decode(self, args: list[Any]) -> None:
        assembly, group = _emptied(args)
        data, complete, seconds = None, False, 0.0
        sizes = []
        while group:
            slot, data = group.pop()  # so that its bytes are not kept until the whole group is done
            start = perf_counter()
            if isinstance(data, mmap):  # a large file, as our reader has it; decoders are for bytes
                data = bytes(data)
            complete |= assembly.decode(slot, data)
            sizes.append(len(data))
            seconds += self._record(assembly, start)
        self._done(assembly, complete, sizes, seconds)
        del assembly, data

    def _fill(self, args: list[Any]) -> None:
        assembly, stand_in = _emptied(args)
        take = self._stages.take
        assert take is not None  # noqa: S101 - what has no reader has this
        start = perf_counter()
        complete = assembly.fill(take) if stand_in is None else assembly.fill_stand_in(stand_in, take)
        self._done(assembly, complete, (), self._record(assembly, start))
        del assembly

    def _restore(self, args: list[Any]) -> None:
        assembly, slots, kept, on_damaged = _emptied(args)
        start = perf_counter()
        damaged = kept.damaged(assembly.planned.indices[slots])
        whole = slots[~damaged]
        complete = len(whole) > 0 and assembly.restore(whole, kept)
        if len(whole) < len(slots):
            self._mailbox.post(on_damaged, (assembly, slots[damaged].tolist()))
        self._done(assembly, complete, (), self._record(assembly, start))
        del assembly

    def _fetch(self, args: list[Any]) -> None:
        assembly, slots = _emptied(args)
        fetch, hooks = self._stages.fetch, self._stages.hooks
        assert fetch is not None  # noqa: S101 - it was asked in `fill`
        data, complete, waited, seconds = None, False, 0.0, 0.0
        while slots and not self._ended:  # nothing is fetched once the iteration is over
            slot, start = slots.pop(0), perf_counter()
            try:
                data, assembly.seating.labels[slot] = fetch(assembly.seating.occupant(slot)[0])
            except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a source raises is this sample's error
                complete |= assembly.fail(slot, ReadError, cause)
                continue
            fetched = perf_counter()
            waited += fetched - start
            if hooks:
                record(hooks, Span("read", start, fetched, assembly.planned.epoch, assembly.planned.step, _lane()))
            complete |= assembly.decode(slot, data)
            seconds += self._record(assembly, fetched)
        assembly.spent(waited, seconds)
        self._done(assembly, complete, (), seconds)
        del assembly, data  # see `Assembly.fail`

    def _seal(self, args: list[Any]) -> None:
        (assembly,) = _emptied(args)
        self._done(assembly, True, (), 0.0)
        del assembly

    def _record(self, assembly: Assembly, start: float) -> float:
        stop = perf_counter()
        if self._stages.hooks:
            planned = assembly.planned
            record(self._stages.hooks, Span("decode", start, stop, planned.epoch, planned.step, _lane()))
        return stop - start

    def _done(self, assembly: Assembly, complete: bool, sizes: Sequence[int], seconds: float) -> None:
        if complete:
            assembly.seal()
        self._mailbox.post(self._account, (assembly if complete else None, sizes, seconds))

    def _account(self, done: Done) -> None:
        self.jobs -= 1
        self._on_done(done)


def _lane() -> int:
    return int(threading.current_thread().name.rpartition("_")[2])  # they are called prefix_0, prefix_1, …


def _emptied(args: list[Any]) -> list[Any]:
    taken = args.copy()
    args.clear()
    return taken
