"""What was read once, kept near: on a local disk, or in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from asyncbatch._arguments import Size, check_choice, require_flag, size_in_bytes
from asyncbatch._errors import ConfigError
from asyncbatch._types import ReadCounters, Reader, ReaderFactory, Sample
from asyncbatch.readers._contents import Contents
from asyncbatch.readers._first_try import Timed
from asyncbatch.readers._memory_store import MemoryStore
from asyncbatch.readers._opened import opened
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._rows import Rows
from asyncbatch.readers.files import OpenFileReader
from asyncbatch.readers.objects import OpenObjectReader

__all__ = ["Cache", "CachingReader", "as_cache"]

_WORKERS = 8  # threads that read and write on a local disk
_WAITERS = 64  # threads that wait for another process, which fetches the same just now
_CLOSE_TIMEOUT = 1.0  # seconds; who waits for another process then waits on by itself, and takes nothing

R = TypeVar("R")


class KeepsBytes(Protocol):
    """What keeps bytes; see `Store`."""

    is_open_for_more: bool
    corrupt: int

    def get(self, name: str, /) -> bytes | None: ...
    def put(self, name: str, data: bytes, /) -> bool: ...
    def claim(self, name: str, /) -> None: ...
    def release(self, name: str, /) -> None: ...
    def rows(self, name: str, count: int, shape: tuple[int, ...], /) -> Rows: ...
    def held(self, *, verify: bool = False) -> Contents: ...
    def clear(self) -> Contents: ...
    def close(self) -> None: ...


class Cache:
    """Where samples that were read are kept, so that the next epoch, and the next run, need not read them again.

    What comes first stays until the cache is cleared; when it is full, the rest is read from where it is. Processes of
    one machine may share a folder: each sample is fetched by one of them. A process that is killed leaves nothing that
    would disturb the next, and a full disk ends the filling with a warning. A sample is known by its key, path, offset
    and length: if files are replaced under their names, clear the cache.

    Args:
        path: A folder on a local disk, made if it is not there; or "memory", for as long as this object lives.
        limit: How much it may hold, in bytes or as "200GB".
        what: "raw" keeps the bytes as they were read, which any decoder may use, and spares the storage. "decoded"
            keeps the pixels in the size that the decoder makes, before augmentation: spares decoding as well, takes
            150 KB for a picture of 224 × 224 where its JPEG may have 60, and serves that size only. It is for an
            `ImageDecoder` with an `image_size` whose `transform`, if it has one, begins with `Resize((height, width))`.
        verify: Whether each entry is compared with its checksum when it is read, some 20 µs for a photograph; one that
            is not what it was is fetched again. Decoded rows are compared the first time that a loader uses them.

    Raises:
        ConfigError: An argument cannot be used, or the folder cannot.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limit: Size = "200GB",
        what: Literal["raw", "decoded"] = "raw",
        verify: bool = True,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ConfigError(
                f"a cache is a folder on a local disk, or 'memory', got {path!r}; write cache='/tmp/cache'"
            )
        self.path = os.fspath(path)
        self.limit = size_in_bytes(limit, "limit")
        check_choice("what", what, ("raw", "decoded"))
        self.what = what
        self.verify = require_flag("verify", verify, default=True)
        self._memory = MemoryStore(self.limit) if self.path == "memory" else None

    def open(self) -> KeepsBytes:
        """Return what holds the bytes, to be closed."""
        if self._memory is not None:
            return self._memory
        try:
            from asyncbatch.readers._store import Store  # noqa: PLC0415 - Windows has no locks of this kind

            return Store(self.path, self.limit, verify=self.verify)
        except (OSError, ImportError) as error:
            raise self._unusable(error) from error

    def open_rows(self, name: str, count: int, shape: tuple[int, ...]) -> Rows:
        """Return the rows that are kept under a name, for `count` samples of one shape.

        Raises:
            ConfigError: The folder cannot be used.
        """
        store = self.open()
        try:
            rows = store.rows(name, count, shape)
        except OSError as error:
            store.close()
            raise self._unusable(error) from error
        if self._memory is None:
            weakref.finalize(rows, store.close)  # a decode thread may be at them when an iteration has ended
        return rows

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"the cache {self.path!r} cannot be used: {error}; name a folder on a local disk")

    @staticmethod
    def is_one(path: str | os.PathLike[str]) -> bool:
        """Whether a folder is a cache that was filled before."""
        return all(os.path.exists(os.path.join(path, name)) for name in ("locks", "total", "partial"))  # noqa: PTH110, PTH118

    def held(self, *, verify: bool = False) -> Contents:
        """Count what it holds.

        Args:
            verify: Whether each entry is compared with its checksum.
        """
        with closing(self.open()) as store:
            return store.held(verify=verify)

    def clear(self) -> Contents:
        """Throw away what it holds; return what that was."""
        with closing(self.open()) as store:
            return store.clear()

    def __repr__(self) -> str:
        what = "" if self.what == "raw" else f", what={self.what!r}"
        return f"Cache({self.path!r}, limit={self.limit}{what})"


def as_cache(cache: Cache | str | os.PathLike[str] | None) -> Cache | None:
    """Return the cache that is meant: a path stands for one with the usual settings."""
    return cache if cache is None or isinstance(cache, Cache) else Cache(cache)


@dataclass(frozen=True, slots=True)
class CachingReader:
    """A reader that looks into a cache first, as a factory.

    Args:
        reader: The one that is asked for the rest.
        cache: Where to look.
    """

    reader: Reader | ReaderFactory
    cache: Cache
    is_told: ClassVar[bool] = True

    @asynccontextmanager
    async def open(self, *told: Any) -> AsyncGenerator[OpenCachingReader]:
        """Return a context manager that holds the store and its threads."""
        loop = asyncio.get_running_loop()
        # Those that wait for another process have threads of their own: what it waits for in turn may be ours to do.
        workers, waiters = DaemonThreadPool(_WORKERS, "asyncbatch-cache"), DaemonThreadPool(_WAITERS, "asyncbatch-wait")
        store: KeepsBytes | None = None
        try:
            store = await loop.run_in_executor(workers, self.cache.open)
            async with opened(self.reader, *told) as reader:
                yield OpenCachingReader(reader, store, workers, waiters)
        finally:
            await workers.aclose(_CLOSE_TIMEOUT)
            await waiters.aclose(_CLOSE_TIMEOUT)
            if store is not None:
                store.close()


@dataclass(slots=True, eq=False)
class OpenCachingReader:
    """A `CachingReader` in use; belongs to the event loop."""

    inner: Reader
    store: KeepsBytes
    workers: DaemonThreadPool
    waiters: DaemonThreadPool
    counters: ReadCounters = field(init=False)
    _fetching: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)
    _corrupt: int = 0

    def __post_init__(self) -> None:
        counters = getattr(self.inner, "counters", None)
        self.counters = counters if isinstance(counters, ReadCounters) else ReadCounters(concurrency=self.concurrency)

    @property
    def concurrency(self) -> int:
        """How many reads it carries out at once: as many as the reader behind it."""
        return self.inner.concurrency

    def hurry(self) -> None:
        """Have the reader behind it hurry, if it can."""
        if isinstance(self.inner, OpenFileReader):
            self.inner.hurry()

    async def read(self, sample: Sample) -> bytes:
        """Return the sample's bytes, from the cache or from where it is."""
        return bytes((await self.timed_read(sample)).data)

    async def timed_read(self, sample: Sample, *, urgent: bool = False) -> Timed:
        """Do the same, and say how long the storage took where it was asked; first of all if it is urgent."""
        name = _name_of(sample)
        if name not in self._fetching and (found := await self._look(self.workers, self.store.get, name)) is not None:
            return Timed(found, None, 0.0)
        known = self._fetching.get(name)  # where it was drawn twice within the look-ahead
        if known is not None and not urgent:
            found = await asyncio.shield(known)
            self._found(found)
            return Timed(found, None, 0.0)
        if known is not None or not self.store.is_open_for_more:  # the other one may wait for its turn for long
            self.counters.cache_misses += 1
            return await self._read(sample, urgent=urgent)
        self._fetching[name] = future = asyncio.get_running_loop().create_future()
        try:
            timed = await self._fetch(name, sample, urgent=urgent)
            future.set_result(bytes(timed.data))
            return timed
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()  # whether or not somebody waits for it
            raise
        finally:
            del self._fetching[name]

    async def _fetch(self, name: str, sample: Sample, *, urgent: bool) -> Timed:
        """Fetch what is not there, unless another process does so just now."""
        claimed = asyncio.ensure_future(self._look(self.waiters, self._claim, name))
        try:
            found = await asyncio.shield(claimed)
        except asyncio.CancelledError:
            claimed.add_done_callback(lambda _: self.store.release(name))  # nobody needs it any more
            raise
        try:
            if found is not None:
                return Timed(found, None, 0.0)
            self.counters.cache_misses += 1
            timed = await self._read(sample, urgent=urgent)
            await self._in(self.workers, self.store.put, name, bytes(timed.data))
            return timed
        finally:
            self.store.release(name)

    async def _read(self, sample: Sample, *, urgent: bool) -> Timed:
        if isinstance(self.inner, OpenFileReader | OpenObjectReader):
            return await self.inner.timed_read(sample, urgent=urgent)
        began = perf_counter()
        data = await self.inner.read(sample)
        return Timed(data, began, perf_counter())

    def _claim(self, name: str) -> bytes | None:
        self.store.claim(name)
        return self.store.get(name)  # another process may have brought it meanwhile

    async def _look(self, pool: DaemonThreadPool, look: Callable[[str], bytes | None], name: str) -> bytes | None:
        found = await self._in(pool, look, name)
        self.counters.cache_corrupt += self.store.corrupt - self._corrupt
        self._corrupt = self.store.corrupt
        if found is not None:
            self._found(found)
        return found

    def _found(self, data: bytes) -> None:
        self.counters.cache_hits += 1
        self.counters.cache_bytes += len(data)

    async def _in(self, pool: DaemonThreadPool, call: Callable[..., R], *args: Any) -> R:
        if isinstance(self.store, MemoryStore):
            return call(*args)  # nothing of it takes long
        return await asyncio.get_running_loop().run_in_executor(pool, call, *args)


def _name_of(sample: Sample) -> str:
    text = f"{sample.key}\0{sample.path}\0{sample.offset}\0{sample.length}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
