"""Reads a sample for as long as there is hope: again after a while, from another replica, or not at all."""

from __future__ import annotations

import asyncio
import random
from time import monotonic

from asyncbatch._errors import StorageUnresponsive
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.readers._fates import ChangedWhileRead, Fate, delays, fate_of
from asyncbatch.readers._replicas import Replicas
from asyncbatch.readers._storage import Policy, Storage
from asyncbatch.readers._whole import Content

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
        self._earlier: Content | None = None  # of an attempt during which the file seemed to change

    def accept(self, storage: Storage, content: Content) -> bytes:
        """Return what was read if it is one state of the file.

        Raises:
            ChangedWhileRead: It may be half of one and half of another.
        """
        times_count = storage.identities.times_count
        if content.changed == "mtime" and self._earlier is not None and self._earlier.data == content.data:
            storage.identities.times_are_made_up()  # only they differ, each time
            times_count = False
        if content.changed == "size" or (content.changed and times_count):
            self._earlier = content
            raise ChangedWhileRead(f"its {_NAMES[content.changed]} was not the same after reading as before")
        return content.data

    async def after(self, error: Exception, storage: Storage) -> None:
        """Wait until another try makes sense.

        Raises:
            Exception: The error itself, for none does.
        """
        fate = fate_of(error)
        if fate is Fate.DEAD and self._deaths < _DEATHS:
            self._deaths += 1  # the next try waits for the storage; it is not this sample's fault
        elif fate is Fate.SCARCE and self._may_wait():
            storage.scarce()
            await asyncio.sleep(_BREATH * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, keeps no secret
        elif self._attempts <= self._policy.retries and (
            fate is Fate.RETRY or (fate is Fate.LATE and self._replicas.several)
        ):
            self._attempts += 1
            self._counters.retries += 1
            if fate is Fate.RETRY:
                await asyncio.sleep(next(self._pauses))
        else:
            if not isinstance(error, StorageUnresponsive):
                vars(error)["attempts"] = self._attempts
            raise error

    def _may_wait(self) -> bool:
        now = monotonic()
        self._scarce_since = self._scarce_since or now
        return now < self._scarce_since + self._policy.grace


_NAMES = {"mtime": "time of change", "size": "size"}


async def read(sample: Sample, policy: Policy, replicas: Replicas, counters: ReadCounters) -> bytes:
    """Return a sample's bytes.

    Raises:
        OSError: It could not be read, and trying again would not help or did not. Its attribute `attempts` tells how
            often it was tried.
        FileChanged: Its file is not what it was.
        StorageUnresponsive: Nothing could be read.
    """
    effort: Effort | None = None
    failed: Storage | None = None
    while True:
        storage = await replicas.choose(failed)
        try:
            storage, content = await replicas.read(storage, sample)
            effort = effort or (Effort(policy, replicas, counters) if content.changed else None)
            data = effort.accept(storage, content) if effort is not None else content.data
            storage.identities.check(sample.path, content)
        except Exception as error:  # noqa: BLE001 - its fate decides
            effort = effort or Effort(policy, replicas, counters)
            await effort.after(error, storage)
            failed = storage
        else:
            return data
