"""Which sample takes the place of one that failed, under `on_error=Replace(...)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import suppress

from asyncbatch._assembly import Assembly
from asyncbatch._errors import AsyncbatchError, SourceError
from asyncbatch._planning import StandIn, plan_stand_in
from asyncbatch._stages import Stages
from asyncbatch.on_error import allowed_of

__all__ = ["StandIns"]

# Where even one sample in four is bad, nine bad ones in a row come once in 260,000 times.
_MOST_TRIES = 8


class StandIns:
    """Takes in the slots whose sample failed, and draws a stand-in for each.

    Args:
        stages: What the pipeline is made of.
        plan_pool: The thread that asks the source, which may be a user's code and slow.
        loop: The engine's event loop.
    """

    def __init__(self, stages: Stages, plan_pool: Executor, loop: asyncio.AbstractEventLoop) -> None:
        self._source = stages.source
        self._seed = stages.seed
        # More than may fail in an epoch need not be tried for one slot.
        self._most_tries = min(_MOST_TRIES, allowed_of(stages.on_error, stages.plan.samples))
        self._plan_pool = plan_pool
        self._loop = loop
        self._asked: asyncio.Queue[tuple[Assembly, int] | None] | None = asyncio.Queue()

    def ask(self, assembly: Assembly, slot: int) -> None:
        """Ask for a stand-in; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: the iteration is over
            if (asked := self._asked) is not None:
                self._loop.call_soon_threadsafe(asked.put_nowait, (assembly, slot))

    async def asked(self) -> AsyncIterator[tuple[Assembly, int]]:
        """Yield the slots that a stand-in is asked for, until `end`."""
        assert self._asked is not None  # noqa: S101 - nobody asks for more once it is cleared
        while (vacancy := await self._asked.get()) is not None:
            yield vacancy

    def end(self) -> None:
        """Say that nobody will ask any more."""
        if self._asked is not None:
            self._asked.put_nowait(None)

    def clear(self) -> None:
        """Let go of every batch, and of those that threads which are not done yet will ask for."""
        self._asked = None

    async def draw(self, assembly: Assembly, slot: int) -> StandIn | AsyncbatchError | None:
        """Return the next stand-in for a slot, the source's error, or None when enough were tried."""
        own, *tried = [error.index for error in assembly.seating.attempts(slot)]
        if len(tried) >= self._most_tries:
            return None
        try:
            return await self._loop.run_in_executor(
                self._plan_pool, plan_stand_in, self._source, self._seed, assembly.planned, own, tried
            )
        except SourceError as error:
            return error
