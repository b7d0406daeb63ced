"""The same tree on several mounts: whom to ask, and when to ask a second one as well.

A read that is slower than 95 of 100 is hedged: asked of another replica too, and the first answer counts. That costs
few extra reads and takes the tail off (Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from asyncbatch._errors import StorageUnresponsive
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.readers._fates import Fate, fate_of
from asyncbatch.readers._flight import Ask
from asyncbatch.readers._storage import Storage
from asyncbatch.readers._whole import Outcome, Part, Readable, Room

__all__ = ["Failed", "Replicas"]

Failed = dict[Storage, BaseException]
"""What each storage that could not give a sample last said, in the order in which they failed."""

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
    def preferred(self) -> Storage:
        """The storage that is asked first."""
        return self._storages[0]

    @property
    def is_alone(self) -> bool:
        """Whether there is but one, so that nobody else needs to be asked when it is slow."""
        return len(self._storages) == 1

    def hurry(self) -> None:
        """Have as many reads under way as may be, of each."""
        for storage in self._storages:
            storage.hurry()

    async def choose(self, failed: Mapping[Storage, BaseException]) -> Storage:
        """Return a storage that is there, if possible one that has not failed, else the one that failed first.

        Raises:
            StorageUnresponsive: None came back within the grace period.
        """
        up = [storage for storage in self._storages if storage.health.is_up]
        if not up:
            return await self._wait_for_one()
        if not failed:
            return up[0]
        ranks = {storage: rank for rank, storage in enumerate(failed)}
        # One that was late would only lose another thread.
        late = {storage for storage, error in failed.items() if fate_of(error) is Fate.LATE}
        return min(up, key=lambda storage: (storage in late, ranks.get(storage, -1)))

    def is_another(self, failed: Mapping[Storage, BaseException]) -> bool:
        """Whether there is a storage that has not failed."""
        return len(failed) < len(self._storages)

    async def read(
        self, storage: Storage, sample: Sample, room: Room | None, failed: Failed, *, urgent: bool
    ) -> tuple[Storage, Outcome]:
        """Read a sample from one storage, or from another if that is faster; return which it was, too.

        What a storage fails with is added to `failed`. One that is urgent goes before all others that wait.
        """
        self._reads += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        if self.is_alone:
            storage.put(Ask(self.part(storage, sample), answer, room), urgent=urgent)
            return storage, await answer
        slow: asyncio.Future[None] = loop.create_future()
        storage.put(Ask(self.part(storage, sample), answer, room, slow), urgent=urgent)
        answers = {answer: storage}
        try:
            either: list[asyncio.Future[Any]] = [answer, slow]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and (other := self._for_a_hedge(storage)) is not None:
                self._counters.hedges += 1
                second: asyncio.Future[Outcome] = loop.create_future()
                other.put(Ask(self.part(other, sample), second, room), urgent=True)
                answers[second] = other
            return await _first(answers, failed)
        finally:
            for each in answers:
                each.cancel()

    async def _wait_for_one(self) -> Storage:
        if self.is_alone:
            await self._storages[0].health.ready()
            return self._storages[0]
        waits = [asyncio.ensure_future(storage.health.ready()) for storage in self._storages]
        try:
            await asyncio.wait(waits, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
            answered = zip(self._storages, waits, strict=True)
            back = [storage for storage, wait in answered if wait.done() and wait.exception() is None]
            if back:
                return back[0]
        finally:
            for wait in waits:
                wait.cancel()
        roots = ", ".join(storage.root for storage in self._storages)
        raise StorageUnresponsive(
            f"none of the replicas answers: {roots}, for {self._grace:g} s; see to the mounts, and to go on where it "
            "broke write loader.load_state_dict(loader.state_dict()) and iterate again; or give them more time: "
            f"reader=FileReader(grace={3 * self._grace:g}, roots=...)"
        )

    def _for_a_hedge(self, storage: Storage) -> Storage | None:
        """Return whom to ask besides a storage that is slow; None if nobody is there or enough were asked."""
        if self._counters.hedges >= 1 + _EXTRA * self._reads:
            return None
        return next((each for each in self._storages if each is not storage and each.health.is_up), None)

    def part(self, storage: Storage, sample: Sample) -> Readable:
        """Return what is to be read of a storage for a sample."""
        path = sample.path
        if not storage.root:
            return sample
        for root in (each.root for each in self._storages):
            if path.startswith(root + os.sep):
                path = storage.root + path[len(root) :]
                break
        else:
            path = os.path.join(storage.root, path)  # noqa: PTH118 - a Path for every sample costs more
        return Part(path, sample.offset, sample.length)


async def _first(answers: Mapping[asyncio.Future[Outcome], Storage], failed: Failed) -> tuple[Storage, Outcome]:
    """Return the answer that succeeds first, or raise the error of one that failed last."""
    pending = set(answers)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for answer in done:
            error = answer.exception()
            if error is None:
                return answers[answer], answer.result()
            failed[answers[answer]] = error
        if not pending:
            return answers[answer], answer.result()  # raises
