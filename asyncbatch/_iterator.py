"""The caller's side of an iteration: takes batches from the engine, and ends it whatever becomes of the caller."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Self

from asyncbatch._counters import Counters
from asyncbatch._engine import Engine
from asyncbatch._errors import LoaderClosed
from asyncbatch._progress import Delivery
from asyncbatch._spans import record
from asyncbatch._types import Batch, Hook, Span
from asyncbatch.readers._pool import in_thread

__all__ = ["BatchIterator", "on_event_loop"]


class BatchIterator:
    """Iterates over batches, by `for` or `async for`, until its epochs end or something ends it."""

    def __init__(
        self,
        engine: Engine[Delivery],
        counters: Counters,
        hooks: Sequence[Hook],
        on_delivered: Callable[[Delivery | None], None],
    ) -> None:
        self._engine = engine
        self._counters = counters
        self._hooks = hooks
        self._on_delivered = on_delivered  # with None at the end of the last epoch
        self._busy_with: tuple[float, int, int] | None = None  # since when, and with which epoch and step
        self._failed = False  # it ended by an error
        self._is_done = False  # it came to its end
        self._ended = False  # nothing works for this iterator any more
        self._closed_by: str | None = None  # why, if it was ended before its last batch
        self._finalizer = weakref.finalize(self, _finalize, engine)

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        start = perf_counter()
        try:
            delivery = self._engine.handoff.get()
        except BaseException:  # Ctrl-C too: its traceback may keep this iterator alive for long
            self._failed = True
            self._release()
            raise
        if delivery is None:
            self._check_closed()
            self._release()
            self._end()
            raise StopIteration
        return self._delivered(delivery, start)

    async def __anext__(self) -> Batch:
        start = perf_counter()
        try:
            await asyncio.sleep(0)  # let the caller's other tasks run even if every batch is there already
            delivery = await self._engine.handoff.aget()
        except asyncio.CancelledError:
            # By a time-out, say: nothing was taken, and `anext` may be tried again. asyncio may keep a cancelled task's
            # error, and with it this frame, long after the task: it must not keep the iterator alive.
            del self
            raise
        except BaseException:
            self._failed = True
            self._release(wait=False)  # waiting could be cancelled, and the error would be lost with it
            raise
        if delivery is None:
            self._check_closed()
            self._release(wait=False)
            self._end()
            raise StopAsyncIteration
        return self._delivered(delivery, start)

    def close(self, why: str = "it was closed", *, wait: bool = True) -> None:
        """End the background work of this iteration; the loader can be iterated again.

        Args:
            why: What asking for a further batch is answered with.
            wait: Wait until its threads are gone, rather than let them end by themselves.
        """
        if self._engine.is_here and not self._ended:
            self._closed_by = why
            self._engine.handoff.end(discard=True)
            self._release(wait=wait)

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await in_thread(self.close, "asyncbatch-close")

    def _release(self, *, wait: bool = True) -> None:
        self._ended = True
        self._engine.stop()
        if wait:
            self._engine.join()

    def _check_closed(self) -> None:
        if self._closed_by is not None:
            raise LoaderClosed(f"this iterator has no more batches: {self._closed_by}")

    def _end(self) -> None:
        if not self._failed and not self._is_done:
            self._is_done = True
            self._on_delivered(None)

    def _delivered(self, delivery: Delivery, asked: float) -> Batch:
        now = perf_counter()
        batch = delivery.batch
        if self._busy_with is not None:
            since, epoch, step = self._busy_with
            self._counters.compute_seconds += asked - since
            if self._hooks:
                record(self._hooks, Span("compute", since, asked, epoch, step))
        self._counters.waited(*delivery.times.causes(asked, now))
        if self._hooks:
            record(self._hooks, Span("wait", asked, now, batch.epoch, batch.step))
        self._counters.batches += 1
        self._counters.samples += len(batch.indices)
        self._on_delivered(delivery)
        self._busy_with = perf_counter(), batch.epoch, batch.step
        return batch


def _finalize(engine: Engine[Delivery]) -> None:
    """End the work of an iterator that is no longer referred to, or of a process that exits."""
    engine.stop()
    # Garbage is collected in whatever thread happens to allocate: waiting for the threads is only for the caller's
    # own, and not for one whose event loop would stand still meanwhile.
    if not threading.current_thread().name.startswith("asyncbatch-") and not on_event_loop():
        engine.join()


def on_event_loop() -> bool:
    """Whether this thread runs an event loop, which must not be blocked."""
    return asyncio._get_running_loop() is not None
