"""Asking a second time for what is late: the first answer counts, and the other is called off.

Of an object there are several copies behind one address, on servers that are slow one at a time. So a read that takes
longer than 95 of 100 is worth asking again, and takes the tail off for few extra reads (Dean and Barroso, "The Tail at
Scale", CACM 56(2), 2013). When everything is slow, doubling the load helps nobody: the share of such reads is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from asyncbatch._types import ReadCounters
from asyncbatch.readers._latency import Latencies

__all__ = ["Ask", "Hedge"]

Ask = Callable[[], Coroutine[Any, Any, bytes]]
"""Asks for a sample's bytes once."""

_SLOW = 0.95  # quantile of the latencies from which on a read is late
_LOOK = 0.05  # seconds between looks at whether a late read may be asked again by now


class Hedge:
    """Of one store; belongs to the event loop.

    Args:
        share: Of the reads that may be asked a second time; 0 for none.
        latencies: How long reads take.
        counters: Reads that were asked twice are counted here.
    """

    def __init__(self, share: float, latencies: Latencies, counters: ReadCounters) -> None:
        self._share = share
        self._latencies = latencies
        self._counters = counters
        self._reads = 0

    async def first(self, ask: Ask) -> bytes:
        """Return the first answer.

        Raises:
            Exception: What `ask` raised; if it was asked twice, the last time.
        """
        self._reads += 1
        slow = self._latencies.quantile(_SLOW) if self._share else None
        if slow is None:
            return await ask()  # without a task, which costs more than all else here
        asked = [asyncio.ensure_future(ask())]
        try:
            await asyncio.wait(asked, timeout=slow)
            while not asked[0].done() and not self._may():  # until others have earned it
                await asyncio.wait(asked, timeout=max(slow, _LOOK))
            if asked[0].done():
                return asked[0].result()
            self._counters.hedges += 1
            asked.append(asyncio.ensure_future(ask()))
            return await _first(asked)
        finally:
            if late := [each for each in asked if each.cancel()]:
                await asyncio.gather(*late, return_exceptions=True)  # nothing is left behind, and no error unheard

    def _may(self) -> bool:
        return self._counters.hedges + 1 <= self._share * self._reads


async def _first(asked: list[asyncio.Task[bytes]]) -> bytes:
    pending = set(asked)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        answers = [each for each in done if each.exception() is None]
        if answers or not pending:
            return (answers or list(done))[0].result()
