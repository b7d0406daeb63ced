"""The same tree on several mounts: whom to ask, and when to ask a second one as well.

A read that is slower than 95 of 100 is hedged: asked of another replica too, and the first answer counts. That costs
few extra reads and takes the tail off (Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from asyncbatch._errors import StorageUnresponsive
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.readers._storage import Storage
from asyncbatch.readers._whole import Content, Part

__all__ = ["Replicas"]

_SLOW = 0.95  # quantile of the latencies from which on a read is hedged
_EXTRA = 0.10  # share of the reads that may be hedged: when a whole mount is slow, doubling its load helps nobody


class Replicas:
    """The storages that hold the samples' files, the preferred one first; belongs to the event loop.

    Args:
        storages: At least one. More than one hold the same tree below their roots.
        grace: Seconds to wait for one of several to come back.
        counters: What is done is counted here.
    """

    def __init__(self, storages: Sequence[Storage], grace: float, counters: ReadCounters) -> None:
        self._storages = storages
        self._grace = grace
        self._counters = counters
        self._reads = 0

    @property
    def several(self) -> bool:
        """Whether there is another one to turn to."""
        return len(self._storages) > 1

    async def choose(self, avoid: Storage | None) -> Storage:
        """Return a storage that is there, if possible not the one to avoid.

        Raises:
            StorageUnresponsive: None came back within the grace period.
        """
        up = [storage for storage in self._storages if storage.health.is_up]
        if up:
            return next((storage for storage in up if storage is not avoid), up[0])
        if not self.several:
            await self._storages[0].health.ready()
            return self._storages[0]
        waits = [asyncio.ensure_future(storage.health.ready()) for storage in self._storages]
        try:
            await asyncio.wait(waits, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
            for storage, wait in zip(self._storages, waits, strict=True):
                if wait.done():
                    return storage
        finally:
            for wait in waits:
                wait.cancel()
        roots = ", ".join(storage.root for storage in self._storages)
        raise StorageUnresponsive(
            f"none of the replicas answers: {roots}, for {self._grace:g} s; see to the mounts and begin the iteration "
            f"again, or give them more time: reader=FileReader(grace={3 * self._grace:g}, roots=...)"
        )

    async def read(self, storage: Storage, sample: Sample) -> tuple[Storage, Content]:
        """Read a sample from one storage, or from another if that is faster; return which it was, too."""
        self._reads += 1
        answer = storage.ask(self._part(storage, sample))
        if self.several and (other := await self._hedge(storage, answer)) is not None:
            return await _first({answer: storage, other.ask(self._part(other, sample)): other})
        return storage, await answer

    async def _hedge(self, storage: Storage, answer: asyncio.Future[Content]) -> Storage | None:
        """Wait until a read is slow; return whom to ask as well, None if it came before or there is nobody to ask."""
        slow = storage.latencies.quantile(_SLOW)
        await asyncio.wait([answer], timeout=slow)
        other = next((each for each in self._storages if each is not storage and each.health.is_up), None)
        if answer.done() or other is None or self._counters.hedges >= 1 + _EXTRA * self._reads:
            return None
        self._counters.hedges += 1
        return other

    def _part(self, storage: Storage, sample: Sample) -> Part:
        path = sample.path
        if storage.root:
            for root in (each.root for each in self._storages):
                if path.startswith(root + os.sep):
                    path = storage.root + path[len(root) :]
                    break
            else:
                path = os.path.join(storage.root, path)  # noqa: PTH118 - a Path for every sample costs more
        return Part(path, sample.offset, sample.length)


async def _first(answers: dict[asyncio.Future[Content], Storage]) -> tuple[Storage, Content]:
    """Return the answer that succeeds first, or raise the error of the one that failed last."""
    pending = set(answers)
    try:
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for answer in done:
                if not pending or answer.exception() is None:
                    return answers[answer], answer.result()
    finally:
        for answer in pending:
            answer.cancel()
