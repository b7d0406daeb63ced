"""For loaders whose batches are made elsewhere: by other processes, on other machines.

Batch k is a function of the plan, so any process that has the same `Loader` can make it. There, `loader.maker()` makes
batches by their numbers. Here, a subclass of `Loader` returns a `Producer` of its own, and all else (order, errors,
progress, state) is as it is with batches that are made here. `asyncbatch.adapters.ray` is made this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from asyncbatch._arguments import require_seconds, require_whole, size_in_bytes
from asyncbatch._counters import Counters
from asyncbatch._engine import Engine
from asyncbatch._errors import LoaderClosed, SourceError, describe
from asyncbatch._made import Coming, Dooms, MadeBatch, Producer, Times
from asyncbatch._pipeline import Pipeline
from asyncbatch._stages import Stages
from asyncbatch._types import Sample, Source
from asyncbatch.readers._opened import opened
from asyncbatch.readers._pool import in_thread

__all__ = ["Coming", "Dooms", "MadeBatch", "Maker", "Producer", "Times", "require_seconds", "require_whole",
           "size_in_bytes"]  # fmt: skip

_TRIED = 4  # samples that are read to see whether the source can be reached: one may be missing, and all are not


class Maker:
    """Makes batches by their numbers, in the order in which they are asked for. Made by `Loader.maker`.

    It reads ahead over all that it is asked for. Belongs to one event loop.
    """

    def __init__(self, stages: Stages, counters: Counters) -> None:
        self._stages = stages
        self._counters = counters
        self._asked: _Asked
        self._waiting: dict[int, asyncio.Future[MadeBatch]] = {}
        self._broken: BaseException | None = None
        self._engine: Engine[MadeBatch] = Engine(self._produce, lambda made: made)
        self._pump: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """See that samples can be read here.

        Raises:
            SourceError: Of a few from all over the source none can be.
        """
        if self._stages.reader is None:
            return
        samples = await in_thread(partial(_some, self._stages.source), "asyncbatch-plan")
        failures: list[tuple[Sample, Exception]] = []
        async with opened(self._stages.reader) as reading:
            for sample in samples:
                try:
                    await reading.read(sample)
                except Exception as error:  # noqa: BLE001 - whatever keeps it from being read
                    failures.append((sample, error))
                else:
                    return
        sample, cause = failures[0]
        others = f", nor {len(failures) - 1} others that were tried" if failures[1:] else ""
        raise SourceError(f"{sample.key!r} cannot be read: {describe(cause)}{others}") from cause

    async def make(self, number: int) -> MadeBatch:
        """Make a batch.

        Args:
            number: Its number through all epochs, `epoch * len(loader) + step`. It must not be under way already.

        Raises:
            LoaderClosed: The maker was closed.
            Exception: What broke it is raised for this batch and all that follow. What fails of the batch itself is in
                the batch.
        """
        if self._broken is not None:
            raise self._broken
        if self._pump is None:
            self._pump = asyncio.create_task(self._take())
        future: asyncio.Future[MadeBatch]
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        self._asked.put(number)
        return await future

    def close(self) -> None:
        """End all work; what is under way is not made. Does not wait."""
        self._break(LoaderClosed("the maker of batches was closed"))

    def _produce(self, loop: asyncio.AbstractEventLoop) -> Producer:
        self._asked = _Asked(loop)
        return Pipeline(self._stages, self._asked.next, None, self._counters, loop)

    async def _take(self) -> None:
        try:
            while (made := await self._engine.handoff.aget()) is not None:
                self._counters.batches += 1
                self._counters.samples += len(made.indices)
                future = self._waiting.pop(made.number)
                if not future.done():  # it is, when whoever asked was cancelled
                    future.set_result(made)
                del made, future  # megabytes need not wait for the next one
        except Exception as error:  # noqa: BLE001 - it is everybody's who waits
            self._break(error)

    def _break(self, error: BaseException) -> None:
        self._broken = self._broken or error
        self._asked.put(None)
        self._engine.end(LoaderClosed("the maker of batches was closed"))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._broken)
                future.exception()  # nobody may be there to see it, and asyncio would complain of that
        self._waiting.clear()


def _some(source: Source) -> list[Sample]:
    return [source[index] for index in sorted({place * (len(source) - 1) // (_TRIED - 1) for place in range(_TRIED)})]


class _Asked:
    """The numbers that were asked for in one thread, for the event loop of another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._numbers: asyncio.Queue[int | None] = asyncio.Queue()

    def put(self, number: int | None) -> None:
        """Ask for one; None is the end."""
        with suppress(RuntimeError):  # the loop is closed: it is over
            self._loop.call_soon_threadsafe(self._numbers.put_nowait, number)

    async def next(self, most: int) -> Sequence[int]:
        """Wait for numbers; return those that are there, and none at the end."""
        numbers = [await self._numbers.get()]
        while len(numbers) < most and not self._numbers.empty():
            numbers.append(self._numbers.get_nowait())
        if numbers[-1] is None:
            self._numbers.put_nowait(None)
        return [number for number in numbers if number is not None]
