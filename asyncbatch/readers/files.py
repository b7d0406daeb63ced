"""Reads whole files, many at once, in one hop to a thread.

`aiofiles.open`, `read` and `close` are three hops and close on the loop's default executor; `aiofiles`' own wrapper
around one function that does all three is one hop (119 against 277 µs CPU a file on asyncio, 95 against 220 on uvloop).
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

from aiofiles.ospath import wrap

from asyncbatch._arguments import Size, require_whole, size_in_bytes
from asyncbatch._types import Sample
from asyncbatch.readers._pool import DaemonThreadPool

__all__ = ["FileReader"]

# How long closing waits for reads under way before it leaves them to end by themselves: `break` should be prompt, and
# a read that takes longer than this is likely to be stuck.
_CLOSE_TIMEOUT = 1.0

# Without O_NONBLOCK, opening a FIFO waits for a writer that may never come. Neither flag exists on Windows, which
# needs O_BINARY instead to leave line ends alone.
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_GROUP = 8
_FAST = 0.001  # seconds a file: page cache and local disks are faster, no mount across a network is

_Ask = tuple[Sample, "asyncio.Future[bytes]"]

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReader:
    """Reads samples from files, on threads of its own that live as long as one iteration.

    Args:
        concurrency: The most files that are read at once. The default suits storage that answers in 1 to 50 ms, where
            64 reads keep two cores decoding. On page cache 8 would do, and 64 cost up to a tenth of the throughput.
        max_size: Larger samples are refused before they are read, in bytes or as "256MB". The default holds an
            uncompressed picture of 85 megapixels.

    Raises:
        ConfigError: `concurrency` is not a whole number above 0, or `max_size` is not a size.
    """

    concurrency: int = 64
    max_size: Size = "256MB"

    def __post_init__(self) -> None:
        require_whole("concurrency", self.concurrency, least=1, example=64)
        object.__setattr__(self, "max_size", size_in_bytes(self.max_size, "max_size"))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenFileReader, None]:
        """Return a context manager that holds the threads; its value reads."""
        pool = DaemonThreadPool(self.concurrency, "asyncbatch-read")
        try:
            yield OpenFileReader(pool, self.concurrency, size_in_bytes(self.max_size, "max_size"))
        finally:
            await pool.aclose(_CLOSE_TIMEOUT)


class OpenFileReader:
    """A `FileReader` in use.

    Files that are asked for together share a hop to a thread while reading is fast: of 119 µs CPU a file 71 are left at
    groups of 8. On slow storage each file has a thread of its own, and none waits for another.
    """

    def __init__(self, pool: DaemonThreadPool, concurrency: int, max_size: int) -> None:
        self.concurrency = concurrency
        self._pool = pool
        self._max_size = max_size
        self._asked: list[_Ask] = []
        self._hops: set[asyncio.Task[None]] = set()
        self._seconds_a_file = _FAST  # not fast until measured

    async def read(self, sample: Sample) -> bytes:
        """Return the sample's bytes.

        Raises:
            OSError: Opening or reading failed, or the path is not a regular file, holds fewer bytes than it should, or
                more than `max_size`.
        """
        if not sample.path:
            raise OSError(errno.EINVAL, "has no path; write Sample(key=..., path=...) in the source")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)  # after everybody who asks in this turn of the loop
        self._asked.append((sample, answer))
        return await answer

    def _send(self) -> None:
        asked = [ask for ask in self._asked if not ask[1].done()]  # done: cancelled, for the iteration ends
        self._asked = []
        size = _GROUP if self._seconds_a_file < _FAST else 1
        for start in range(0, len(asked), size):
            hop = asyncio.ensure_future(self._hop(asked[start : start + size]))
            self._hops.add(hop)  # the loop itself keeps no task alive
            hop.add_done_callback(self._hops.discard)

    async def _hop(self, asked: list[_Ask]) -> None:
        results: Sequence[bytes | Exception]
        try:
            results, seconds = await _read_files([sample for sample, _ in asked], self._max_size, executor=self._pool)
            self._seconds_a_file += (seconds / len(asked) - self._seconds_a_file) / 8
        except Exception as error:  # noqa: BLE001 - the pool's: no thread can be started
            results = [error] * len(asked)
        for (_, answer), result in zip(asked, results, strict=True):
            if answer.done():  # cancelled: the iteration ends
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)


def read_files(samples: Sequence[Sample], max_size: int) -> tuple[list[bytes | Exception], float]:
    """Read one file after the other; return the bytes or the error of each, and how many seconds all took."""
    start = perf_counter()
    results: list[bytes | Exception] = []
    for sample in samples:
        try:
            results.append(read_file(sample.path, sample.offset, sample.length, max_size))
        except Exception as error:  # noqa: BLE001 - it is that sample's, and the others are read all the same
            results.append(error)
    return results, perf_counter() - start


def read_file(path: str, offset: int, length: int | None, max_size: int) -> bytes:
    """Read `length` bytes of a regular file from `offset` on, all of the rest if None."""
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a file")
            code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(code, f"is {kind}; samples must be regular files")
        wanted = status.st_size - offset if length is None else length
        if wanted > max_size:
            raise OSError(
                errno.EFBIG,
                f"has {wanted:,} bytes, more than max_size={max_size:,}; "
                f"if that is right, write reader=FileReader(max_size={wanted})",
            )
        if offset:
            os.lseek(descriptor, offset, os.SEEK_SET)
        return _read_exactly(descriptor, wanted)
    finally:
        os.close(descriptor)


_read_files = wrap(read_files)


def _read_exactly(descriptor: int, wanted: int) -> bytes:
    data = os.read(descriptor, wanted)
    if len(data) == wanted:  # nearly always: no second call, no copy
        return data
    parts = [data]
    got = len(data)
    while data and got < wanted:
        data = os.read(descriptor, wanted - got)
        parts.append(data)
        got += len(data)
    if got < wanted:
        raise OSError(errno.EIO, f"ended after {got:,} of {wanted:,} bytes; it was cut off while it was being read")
    return b"".join(parts)
