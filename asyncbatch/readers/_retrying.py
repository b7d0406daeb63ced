"""Reads a sample for as long as there is hope: again after a while, from another replica, or not at all."""

from __future__ import annotations

import asyncio
import random
from mmap import mmap
from time import monotonic

from asyncbatch._errors import StorageUnresponsive
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.readers._fates import ChangedWhileRead, Fate, delays, fate_of
from asyncbatch.readers._first_try import Timed
from asyncbatch.readers._replicas import Failed, Replicas
from asyncbatch.readers._storage import Policy, Storage
from asyncbatch.readers._whole import Content, Outcome, Room

__all__ = ["read"]

_LONGEST_PAUSE = 5.0

# How often one sample may find the storage dead that a probe then finds alive: that is the file's own trouble.
_DEATHS = 4

_BREATH = 0.05  # seconds until descriptors or threads that are lacking may have become free


class Effort:
    """What has been tried for one sample, and what is to be tried next.

    Args:
        policy: How reads are done.
        replicas: Where they go.
        counters: Retries are counted here.
    """

    def __init__(self, policy: Policy, replicas: Replicas, counters: ReadCounters) -> None:
        self._policy = policy
        self._replicas = replicas
        self._counters = counters
        self._attempts = 1
        self._deaths = 0
        self._pauses = delays(policy.backoff, _LONGEST_PAUSE)
        self._scarce_since: float | None = None
        self._earlier: bytes | None = None  # of an attempt during which the time of change became another
        self._largest = 0  # that the file was seen

    def accept(self, storage: Storage, content: Content) -> bytes | mmap:
        """Return what was read if it is one state of the file, and all of it.

        Raises:
            ChangedWhileRead: It may be half of one and half of another, or is shorter than the file was at first. (A
                page cache takes a short read for the file's end, until its attributes expire after a second.)
        """
        if content.size < self._largest:
            raise ChangedWhileRead(f"has {content.size:,} bytes, and had {self._largest:,} before", self._largest)
        if content.touched and storage.identities.times_count:
            data = bytes(content.data)
            if self._earlier != data:
                self._earlier = data
                raise ChangedWhileRead("its time of change was not the same after reading as before", content.size)
            storage.identities.only_the_time_changed()
        return content.data

    async def after(self, error: Exception, storage: Storage, failed: Failed) -> None:
        """Wait until another try makes sense.

        Args:
            error: What was tried last failed with.
            storage: Where.
            failed: What all storages said that failed so far.

        Raises:
            Exception: The error itself, for none does.
        """
        fate = fate_of(error)
        self._largest = max(self._largest, getattr(error, "size", 0))
        if fate is Fate.DEAD and self._deaths < _DEATHS:
            self._deaths += 1  # the next try waits for the storage; it is not this sample's fault
        elif fate is Fate.SCARCE and self._may_wait():
            storage.scarce()
            await asyncio.sleep(_BREATH * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, keeps no secret
        elif fate is Fate.RETRY and self._attempts <= self._policy.retries:
            self._attempts += 1
            self._counters.retries += 1
            await asyncio.sleep(next(self._pauses))
        elif fate is not Fate.RETRY and self._replicas.is_another(failed):
            self._attempts += 1
            self._counters.retries += 1
        else:
            if not isinstance(error, StorageUnresponsive):
                vars(error)["attempts"] = self._attempts
            raise error

    def _may_wait(self) -> bool:
        now = monotonic()
        self._scarce_since = self._scarce_since or now
        return now < self._scarce_since + self._policy.grace


async def read(
    sample: Sample,
    policy: Policy,
    replicas: Replicas,
    counters: ReadCounters,
    room: Room | None = None,
    first: Outcome | BaseException | None = None,
    *,
    urgent: bool = False,
) -> Timed:
    """Return a sample's bytes, those of a large file in pages of their own, and how long they took.

    Args:
        sample: What to read.
        policy: How.
        replicas: Where.
        counters: Retries are counted here.
        room: What the bytes may take up; None for whatever they do.
        first: What the preferred storage answered already; None if it was not asked.
        urgent: Whether it goes before all others that wait for their turn. What is tried again does in any case: it had
            its turn, and its batch may be the next to leave.

    Raises:
        OSError: It could not be read, and trying again would not help or did not. Its attribute `attempts` tells how
            often it was tried.
        FileChanged: Its file is not what it was.
        StorageUnresponsive: Nothing could be read.
    """
    effort: Effort | None = None
    failed: Failed = {}
    while True:
        storage = await replicas.choose(failed) if first is None else replicas.preferred
        try:
            if first is None:
                storage, outcome = await replicas.read(storage, sample, room, failed, urgent=urgent)
            else:
                outcome, first = _unwrapped(first), None
            if isinstance(outcome, Content):
                effort = effort or (Effort(policy, replicas, counters) if outcome.touched else None)
                data = effort.accept(storage, outcome) if effort is not None else outcome.data
                storage.identities.check(sample.path, outcome)
                return Timed(data, outcome.began, outcome.ended)
        except Exception as error:  # noqa: BLE001 - its fate decides
            first = None
            effort = effort or Effort(policy, replicas, counters)
            failed.pop(storage, None)
            failed[storage] = error  # the last one, now
            await effort.after(error, storage, failed)
        else:
            assert room is not None  # noqa: S101 - who else would have put it off
            await room.wait(outcome.size)
        urgent = True


def _unwrapped(outcome: Outcome | BaseException) -> Outcome:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
