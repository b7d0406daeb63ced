"""Reads samples that lie together in chunks, each of which is read as a whole, such as the row groups of Parquet.

All of it but the reading belongs to the event loop. A chunk is begun when the first of its samples is asked for, in
that order, and is kept for its neighbours until its room is wanted. Room is waited for by the chunks alone: whoever has
asked for a sample of a chunk that is there is served at once, so that room always comes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from asyncbatch._chunked import ChunkedSample, ChunkedSource
from asyncbatch._types import Sample
from asyncbatch.readers._pool import DaemonThreadPool

__all__ = ["ChunkReader"]

# Samples that are asked for at once, most of which wait for a chunk that others wait for, too: enough to look ahead
# over two or three row groups as Hugging Face writes them, 100 pictures each.
_CONCURRENCY = 256

_THREADS = 8  # chunks that are read at once; each is megabytes, which a few streams bring as fast as many

_CLOSE_TIMEOUT = 1.0  # seconds for reads under way; after that their daemon threads are left to themselves


@dataclass(frozen=True, slots=True)
class ChunkReader:
    """Reads the samples of a `ChunkedSource`.

    Args:
        source: Whose chunks they are.
        keep: The budget for chunks in memory, in bytes. A larger chunk passes when no other is held.
    """

    source: ChunkedSource
    keep: int

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenChunkReader, None]:
        reader = OpenChunkReader(self.source, self.keep)
        try:
            yield reader
        finally:
            await reader.aclose()


class _Chunk:
    """One chunk.

    Attributes:
        size: What it takes of the budget.
        users: How many wait for it, or take something of it.
        rows: The task that reads it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.users = 0
        self.rows: asyncio.Task[Sequence[bytes]]


class OpenChunkReader:
    """A reader while one iteration lasts."""

    concurrency = _CONCURRENCY

    def __init__(self, source: ChunkedSource, keep: int) -> None:
        self._source = source
        self._keep = keep
        self._held = 0  # bytes of chunks that are read or being read
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()  # the one that was used last comes last
        self._turn = asyncio.Lock()  # the chunk that was asked for first gets room first
        self._freed = asyncio.Event()
        self._pool = DaemonThreadPool(_THREADS, "asyncbatch-chunk")

    async def read(self, sample: Sample, /) -> bytes:
        """Return a sample's bytes, of its chunk."""
        sample = cast("ChunkedSample", sample)  # the source gives no others
        chunk = self._chunks.get(sample.chunk) or self._begin(sample.chunk)
        self._chunks.move_to_end(sample.chunk)
        chunk.users += 1
        try:
            rows = await asyncio.shield(chunk.rows)  # others wait for it, too
            return rows[sample.row]
        finally:
            chunk.users -= 1
            self._freed.set()

    async def aclose(self) -> None:
        """End: what is being read is left to itself after a moment."""
        tasks = [chunk.rows for chunk in self._chunks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._chunks.clear()
        await self._pool.aclose(_CLOSE_TIMEOUT)

    def _begin(self, number: int) -> _Chunk:
        chunk = self._chunks[number] = _Chunk(self._source.chunk_size(number))
        chunk.rows = asyncio.ensure_future(self._load(number, chunk))
        return chunk

    async def _load(self, number: int, chunk: _Chunk) -> Sequence[bytes]:
        async with self._turn:
            while self._held and self._held + chunk.size > self._keep:
                if not self._evict():
                    self._freed.clear()
                    await self._freed.wait()
            self._held += chunk.size
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._source.load_chunk, number)
        except BaseException:
            self._held -= chunk.size
            del self._chunks[number]  # who asks for it next has it tried again
            raise
        finally:
            self._freed.set()  # nobody may be left who wanted it

    def _evict(self) -> bool:
        """Let go of the chunk that was not used for the longest time; False if all of them are in use."""
        for number, chunk in self._chunks.items():
            if chunk.rows.done() and not chunk.users:
                del self._chunks[number]
                self._held -= chunk.size
                return True
        return False
