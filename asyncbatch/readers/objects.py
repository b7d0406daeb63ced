"""Reads objects of S3, Google Cloud Storage, Azure and web servers, many at once, without threads of its own."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic, perf_counter
from typing import Any, ClassVar, Literal

from asyncbatch._arguments import Size, require_seconds, require_whole, size_in_bytes
from asyncbatch._buckets import Bucket, failure, obstore, require_options
from asyncbatch._errors import ConfigError
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.readers._fates import Fate, delays, fate_of
from asyncbatch.readers._first_try import Timed
from asyncbatch.readers._found import Findings, Found
from asyncbatch.readers._hedge import Hedge
from asyncbatch.readers._outage import Outage
from asyncbatch.readers._part import check_object, place_of, range_of
from asyncbatch.readers._tuning import MOST
from asyncbatch.readers._turns import Turns

__all__ = ["ObjectReader", "OpenObjectReader"]

_LONGEST_PAUSE = 5.0
_AN_HOUR = 3600.0  # for a request, by obstore's clock: how long is too long is said here
_BREATH = 0.05  # seconds until descriptors that are lacking may have become free


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReader:
    """Reads samples whose `path` is the URL of an object, on the loader's own event loop.

    It opens its connections with an iteration and closes them with it; `loader.epochs(n)` keeps them from one epoch to
    the next. What may pass is tried again: 5xx and 429, resets, time-outs, answers that are shorter than said or than
    was listed. A store that answers nobody is waited for. A missing object or permission is the sample's error at once.

    Args:
        concurrency: How many objects are read at once. "auto" starts with 8 and finds the number at which the store
            gives the most, up to 512, and finds it anew when the store becomes faster or slower. What was found is
            where the next epoch begins.
        timeout: Seconds a try may take. "auto" is 8 times the 99th percentile of late reads, and at least 10 s.
        retries: Further tries after an error that may pass. 4, with `backoff`, bridge some 1.5 s. obstore's own are
            switched off, so that these are all, and counted.
        backoff: Seconds before the first further try; doubled for each next one up to 5 s, jittered by half.
        hedge: The share of reads that may be asked for a second time when they take longer than 95 of 100; the first
            answer counts. The default of a tenth bounds the extra load, and what is paid for it; 0 for none.
        grace: Seconds that the store as a whole may be away, from the first failure on.
        max_size: Larger samples are refused before they are read, in bytes or as "256MB". The default holds an
            uncompressed picture of 85 megapixels.
        options: How obstore opens the store: `region`, `endpoint`, `skip_signature`, `client_options`, …; what is not
            there is taken from the environment, credentials among it. Default: the source's own.
        store: An obstore store of the whole bucket, used instead. It keeps its connections, and makes tries of its own
            unless it was given `retry_config={"max_retries": 0}`.

    Raises:
        ConfigError: An argument cannot be used.
    """

    concurrency: int | Literal["auto"] = "auto"
    timeout: float | Literal["auto"] = "auto"
    retries: int = 4
    backoff: float = 0.1
    hedge: float = 0.1
    grace: float = 60.0
    max_size: Size = "256MB"
    options: Mapping[str, Any] | None = field(default=None, repr=False)  # may hold secrets
    store: Any = field(default=None, repr=False)
    is_told: ClassVar[bool] = True
    _findings: Findings = field(default_factory=Findings, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.concurrency != "auto":
            self._keep("concurrency", require_whole("concurrency", self.concurrency, least=1, example=64))
        if self.timeout != "auto":
            require_seconds("timeout", self.timeout, example=30)
        self._keep("retries", require_whole("retries", self.retries, least=0, example=4))
        require_seconds("backoff", self.backoff, example=0.1)
        if isinstance(self.hedge, bool) or not isinstance(self.hedge, int | float) or not 0 <= self.hedge <= 1:
            raise ConfigError(f"hedge must be a share of the reads from 0 to 1, got {self.hedge!r}; write hedge=0.1")
        require_seconds("grace", self.grace, example=60)
        self._keep("max_size", size_in_bytes(self.max_size, "max_size"))
        require_options(self.options, self.store)

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def with_bucket(self, bucket: Bucket) -> ObjectReader:
        """Return the same for a source's bucket, unless it was told of another way to open it."""
        if self.options is not None or self.store is not None:
            return self
        return replace(self, options=bucket.options, store=bucket.store)

    @asynccontextmanager
    async def open(
        self, mailbox: object = None, wants_more: Callable[[], bool] = lambda: True, *further: object
    ) -> AsyncGenerator[OpenObjectReader, None]:
        """Return a context manager that holds the connections; its value reads.

        Args:
            mailbox: The pipeline's, which nothing here needs: there are no threads.
            wants_more: Tells whether what is read is used up as fast as it comes, so that reading more at once helps.
            further: As `mailbox`.
        """
        fixed = None if self.concurrency == "auto" else self.concurrency
        found = self._findings.borrow("", fixed, in_groups=False)
        reader = OpenObjectReader(self, found, wants_more)
        try:
            yield reader
        finally:
            await reader.aclose()
            self._findings.give_back("", found)


@dataclass(slots=True, eq=False)
class _Storage:
    """One bucket in use.

    Attributes:
        store: Obstore's, which holds the connections; None once they are let go of.
        outage: Whether it answers.
    """

    store: Any
    outage: Outage


class OpenObjectReader:
    """An `ObjectReader` in use; belongs to the event loop.

    Attributes:
        concurrency: How many reads may be asked for at once. They wait here for their turn.
        counters: What it did so far.
    """

    def __init__(self, policy: ObjectReader, found: Found, wants_more: Callable[[], bool]) -> None:
        self._policy = policy
        self._get = obstore().get_async
        self._head = obstore().head_async
        self._max_size = size_in_bytes(policy.max_size, "max_size")
        self._latencies, self._tuner = found.latencies, found.tuner
        self._turns = Turns(found.tuner)
        self._wants_more = wants_more
        self._storages: dict[str, _Storage] = {}
        self._known: dict[str, str] = {}  # of each bucket a key that was answered
        self.counters = ReadCounters(concurrency=found.tuner.limit)
        self._hedge = Hedge(float(policy.hedge), found.latencies, self.counters)
        self.concurrency = MOST if policy.concurrency == "auto" else policy.concurrency

    async def read(self, sample: Sample) -> bytes:
        """Return the sample's bytes; see `timed_read`."""
        return bytes((await self.timed_read(sample)).data)

    async def timed_read(self, sample: Sample, *, urgent: bool = False) -> Timed:
        """Return the sample's bytes, and how long the store took for them.

        Args:
            sample: What to read.
            urgent: Whether it goes before all others that wait for their turn, as what is tried again does.

        Raises:
            OSError: They could not be had, and trying again would not help or did not; its attribute `attempts` tells
                how often it was tried.
            FileChanged: The object is not what it was.
            StorageUnresponsive: The store is away.
            ConfigError: Its store cannot be opened.
        """
        base, key = place_of(sample)
        storage = self._storage(base)
        began, attempts, pauses = monotonic(), 1, delays(self._policy.backoff, _LONGEST_PAUSE)
        while True:
            await storage.outage.ready()
            outcome = await self._take_turn(storage, sample, key, urgent=urgent or attempts > 1)
            if not isinstance(outcome, OSError):
                self._known[base] = key
                return outcome
            fate = fate_of(outcome)
            if fate is Fate.SCARCE:
                self._tuner.scarce(self._turns.under_way + 1)
                await asyncio.sleep(_BREATH)
                continue
            exhausted = attempts > self._policy.retries
            if fate is Fate.RETRY and (exhausted or storage.outage.is_overdue):
                probe = partial(self._probe, storage, self._known.get(base, key))
                if await storage.outage.was_away(began, probe):
                    began, attempts, pauses = monotonic(), 1, delays(self._policy.backoff, _LONGEST_PAUSE)
                    continue
            if fate is not Fate.RETRY or exhausted:
                vars(outcome)["attempts"] = attempts
                raise outcome
            attempts += 1
            self.counters.retries += 1
            await asyncio.sleep(next(pauses))

    async def aclose(self) -> None:
        """Let go of the stores, whose connections end with them."""
        for storage in self._storages.values():
            await storage.outage.aclose()
            storage.store = None  # an error that somebody keeps refers to this, by its traceback
        self._storages.clear()

    def _storage(self, base: str) -> _Storage:
        storage = self._storages.get(base)
        if storage is None:
            bucket = Bucket(base, self._policy.options or {}, self._policy.store)
            # Some 10 ms, for certificates: nothing else is under way when an iteration's first sample is asked for.
            store = bucket.open(retries=0, timeout=_AN_HOUR)
            storage = self._storages[base] = _Storage(store, Outage(base, self._policy.grace, self._deadline))
        return storage

    def _deadline(self) -> float:
        return self._latencies.deadline() if self._policy.timeout == "auto" else self._policy.timeout

    async def _take_turn(self, storage: _Storage, sample: Sample, key: str, *, urgent: bool) -> Timed | OSError:
        """Try once; return what went wrong, which is not to be the context of anything: see `_buckets`."""
        await self._turns.take(urgent=urgent)
        try:
            generation, began = self._tuner.generation, perf_counter()
            outcome = await self._try(partial(self._fetch, storage, sample, key))
            ended = perf_counter()
            if not isinstance(outcome, OSError):
                self._landed(ended - began, generation)
        finally:
            self._turns.give_back()
        if isinstance(outcome, OSError) and fate_of(outcome) is Fate.RETRY:
            storage.outage.failed()
        else:
            storage.outage.answered()
        return outcome if isinstance(outcome, OSError) else Timed(outcome, began, ended)

    async def _try(self, fetch: Callable[[], Any]) -> bytes | OSError:
        deadline = self._deadline()
        try:
            async with asyncio.timeout(deadline):
                return await self._hedge.first(fetch)
        except TimeoutError as error:
            if error.errno is not None:
                return error
            self.counters.timeouts += 1
            return OSError(
                errno.ETIMEDOUT,
                f"was not there within {deadline:.3g} s; if it may take longer, write "
                f"reader=ObjectReader(timeout={3 * deadline:.3g})",
            )
        except Exception as error:  # noqa: BLE001 - obstore has kinds of its own, and each is an answer
            return failure(error, self._policy.options or {})

    async def _fetch(self, storage: _Storage, sample: Sample, key: str) -> bytes:
        if not sample.length and sample.length is not None:
            return b""  # which no range can ask for
        if sample.length is not None:
            self._check_size(sample.length)
        result = await self._get(storage.store, key, options=range_of(sample))
        size = int(result.meta["size"])
        check_object(sample, size)
        start, end = result.range
        self._check_size(end - start)
        data = bytes(await result.bytes_async())
        if len(data) != (end - start if sample.length is None else sample.length):
            raise OSError(errno.EIO, f"the answer has {len(data):,} bytes, of {sample.length or end - start:,}")
        return data

    async def _probe(self, storage: _Storage, key: str) -> None:
        error: OSError | None = None
        try:
            await self._head(storage.store, key)
        except Exception as said:  # noqa: BLE001 - as above
            error = failure(said, self._policy.options or {})
        if error is not None:
            raise error

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise OSError(
                errno.EFBIG,
                f"has {size:,} bytes, more than max_size={self._max_size:,}; "
                f"if that is right, write reader=ObjectReader(max_size={size})",
            )

    def _landed(self, seconds: float, generation: int) -> None:
        self._latencies.add(seconds)
        self._tuner.landed(seconds, generation, is_the_limit=self._turns.others_wait and self._wants_more())
        self.counters.concurrency = self._tuner.limit
