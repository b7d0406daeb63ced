"""Files on storage that is slow to answer, simulated, so that the demo needs no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncbatch as ab

__all__ = ["SlowFiles"]


class SlowFiles:
    """Reads files as `ab.FileReader` does, after waiting: each read first waits `latency` seconds, as on a mount.

    Waits overlap as they would on real storage: as many as the reader reads at once.
    """

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._files = ab.FileReader(concurrency=64)
        self.concurrency = self._files.concurrency

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[SlowReader, None]:
        async with self._files.open() as reader:
            yield SlowReader(reader, self._latency)


class SlowReader:
    """`SlowFiles` in use."""

    def __init__(self, reader: ab.Reader, latency: float) -> None:
        self._reader = reader
        self._latency = latency
        self.concurrency = reader.concurrency

    async def read(self, sample: ab.Sample) -> bytes:
        await asyncio.sleep(self._latency)
        return await self._reader.read(sample)
