"""Sources and readers whose timing the test decides."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
import time
from dataclasses import dataclass

import numpy as np

import asyncbatch as ab


def wait_until(condition):
    """Wait for what happens in another thread without this one's help; a test's time limit ends a wait in vain."""
    while not condition():
        time.sleep(0)  # let the other threads run


class Listed(list):
    """A source of samples that are listed."""

    fingerprint = "listed"


@dataclass(frozen=True)
class Numbers:
    """A source of `size` samples labelled by their index; sample i's bytes are i, little-endian."""

    size: int
    fingerprint: str = "numbers"

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return ab.Sample(key=f"number-{index}", label=index, path=str(index))


def number(data):
    """Decode what a reader of `Numbers` gives into a row of one number."""
    return np.array([int.from_bytes(data, "little")], np.int64)


def encode(sample):
    return int(sample.path).to_bytes(8, "little")


class Ready:
    """A reader whose reads finish at once; counts them."""

    def __init__(self, concurrency=8):
        self.concurrency = concurrency
        self.reads = 0

    async def read(self, sample):
        self.reads += 1
        return encode(sample)


class Permuted:
    """A reader that finishes reads in a seeded random order: as soon as as many as can be are under way, one of them.

    Args:
        total: How many reads there will be; the last ones find fewer than `concurrency` under way.
    """

    def __init__(self, concurrency, total, seed):
        self.concurrency = concurrency
        self._left = total
        self._random = random.Random(seed)  # noqa: S311 - an order of events, not a secret
        self._waiting = []
        self.finished = []

    async def read(self, sample):
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((done, sample))
        self._finish_one_if_all_are_here()
        await done
        self._finish_one_if_all_are_here()
        return encode(sample)

    def _finish_one_if_all_are_here(self):
        if self._waiting and len(self._waiting) >= min(self.concurrency, self._left):
            done, sample = self._waiting.pop(self._random.randrange(len(self._waiting)))
            self._left -= 1
            self.finished.append(int(sample.path))
            done.set_result(None)


class Failing:
    """A reader that fails chosen samples, and finishes reads in a seeded random order.

    Args:
        bad: Which samples cannot be read.
        seed: Of the number of turns of the loop that each read takes.
    """

    def __init__(self, bad=(), seed=0, concurrency=8):
        self.concurrency = concurrency
        self.bad = frozenset(bad)
        self._random = random.Random(seed)  # noqa: S311 - an order of events, not a secret
        self.begun, self.finished = [], []

    async def read(self, sample):
        self.begun.append(int(sample.path))
        for _ in range(self._random.randrange(16)):
            await asyncio.sleep(0)
        self.finished.append(int(sample.path))
        if int(sample.path) in self.bad:
            raise self.error()
        return encode(sample)

    def error(self):
        return OSError(errno.EIO, os.strerror(errno.EIO))


class Gated:
    """A reader that holds the reads of chosen samples until the test lets them go.

    Attributes:
        arrived: Set when a held read has begun.
    """

    def __init__(self, held, concurrency=8):
        self.concurrency = concurrency
        self.held = frozenset(held)
        self.arrived = threading.Event()
        self.begun = 0
        self._loop = None
        self._gate = None

    async def read(self, sample):
        self.begun += 1
        if int(sample.path) in self.held:
            self._loop = asyncio.get_running_loop()
            self._gate = self._gate or asyncio.Event()
            self.arrived.set()
            await self._gate.wait()
        return encode(sample)

    def release(self):
        self._loop.call_soon_threadsafe(self._gate.set)
