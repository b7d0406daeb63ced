"""Reads whole files, many at once, on threads of its own."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

from asyncbatch._arguments import Size, require_seconds, require_whole, size_in_bytes
from asyncbatch._errors import ConfigError
from asyncbatch._mailbox import Mailbox
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.readers._first_try import FirstTry, GoOn, Tell, Timed
from asyncbatch.readers._flight import Ask
from asyncbatch.readers._found import Findings
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._replicas import Replicas
from asyncbatch.readers._retrying import read
from asyncbatch.readers._run import Left, Run, Use
from asyncbatch.readers._storage import Policy, Storage
from asyncbatch.readers._tuning import MOST
from asyncbatch.readers._whole import Outcome, Room

__all__ = ["FileReader"]

# How long closing waits for reads under way before it leaves them to end by themselves: `break` should be prompt, and
# a read that takes longer than this is likely to be stuck.
_CLOSE_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReader:
    """Reads samples from files, on threads of its own that live as long as one iteration.

    What may pass is tried again: I/O errors, stale handles, resets and time-outs of the network, files that end early
    or change while they are read. Too few descriptors, threads or memory make it read fewer files at once. A mount
    that dies is waited for. What no retry can help, a missing file or a permission, is the sample's error at once.

    Args:
        concurrency: How many files are read at once. "auto" starts with 8 and finds the number at which the storage
            gives the most, up to 512, and finds it anew when the storage becomes faster or slower. What was
            found is where the next epoch begins.
        timeout: Seconds a read may take without making progress while the storage answers others; then its thread is
            given up, and the sample fails. "auto" is 8 times the 99th percentile of late reads, and at least 10 s.
        retries: Further tries after an error that may pass. 4, with `backoff`, bridge some 1.5 s.
        backoff: Seconds before the first further try; doubled for each next one up to 5 s, jittered by half.
        max_lost: Threads that may be stuck in reads that were given up. One more, and the storage counts as dead.
        grace: Seconds that the storage as a whole may be away or silent: a server takes that long to start again.
        max_size: Larger samples are refused before they are read, in bytes or as "256MB". The default holds an
            uncompressed picture of 85 megapixels.
        roots: Folders on different mounts that hold the same tree; the samples' paths begin with one of them. The
            first that is well is read, and the next one too when a read is slower than 95 of 100.

    Raises:
        ConfigError: An argument cannot be used.
    """

    concurrency: int | Literal["auto"] = "auto"
    timeout: float | Literal["auto"] = "auto"
    retries: int = 4
    backoff: float = 0.1
    max_lost: int = 32
    grace: float = 60.0
    max_size: Size = "256MB"
    roots: Sequence[str | os.PathLike[str]] = ()
    is_told: ClassVar[bool] = True
    _findings: Findings = field(default_factory=Findings, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.concurrency != "auto":
            self._keep("concurrency", require_whole("concurrency", self.concurrency, least=1, example=64))
        if self.timeout != "auto":
            require_seconds("timeout", self.timeout, example=30)
        self._keep("retries", require_whole("retries", self.retries, least=0, example=4))
        require_seconds("backoff", self.backoff, example=0.1)
        self._keep("max_lost", require_whole("max_lost", self.max_lost, least=0, example=32))
        require_seconds("grace", self.grace, example=60)
        self._keep("max_size", size_in_bytes(self.max_size, "max_size"))
        self._keep("roots", _roots(self.roots))

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @asynccontextmanager
    async def open(
        self,
        mailbox: Mailbox | None = None,
        wants_more: Callable[[], bool] = lambda: True,
        on_crash: Callable[[BaseException], None] = lambda error: None,
        pace: Callable[[float, bool], float | None] = lambda slowest, is_found: None,
    ) -> AsyncGenerator[OpenFileReader, None]:
        """Return a context manager that holds the threads; its value reads.

        Args:
            mailbox: The pipeline's, which knows whether anybody waits for what is read; None for one of its own.
            wants_more: Tells whether what is read is used up as fast as it comes, so that reading more at once helps.
            on_crash: Called with what went wrong in using it up.
            pace: Tells how many samples a second had better be read, by how many seconds the slowest of late reads
                took, and whether it was found how many at once are best; None for as many as can be had.
        """
        own = Mailbox(asyncio.get_running_loop())
        mailbox = mailbox or own
        policy = Policy(
            concurrency=None if self.concurrency == "auto" else self.concurrency,
            timeout=None if self.timeout == "auto" else float(self.timeout),
            retries=self.retries,
            backoff=float(self.backoff),
            max_lost=self.max_lost,
            grace=float(self.grace),
            max_size=size_in_bytes(self.max_size, "max_size"),
        )
        counters = ReadCounters()
        roots = [os.fspath(root) for root in self.roots] or [""]
        # Besides what is tuned: scouts, probes and hedges.
        most = len(roots) * (policy.concurrency or MOST) + 8

        def refused(threads: int) -> None:
            for storage in storages:
                storage.scarce(threads)

        on_refused = partial(mailbox.post, refused)  # in whichever thread asked for another
        lost = partial(setattr, counters, "lost_threads")
        pool = DaemonThreadPool(most, "asyncbatch-read", on_lost=lost, on_refused=on_refused)
        make = partial(
            Storage,
            policy=policy,
            pool=pool,
            mailbox=mailbox,
            counters=counters,
            wants_more=wants_more,
            pace=pace,
            on_crash=on_crash,
            has_replica=len(roots) > 1,
        )
        storages = [make(root, self._findings.borrow(root, policy.concurrency)) for root in roots]
        try:
            yield OpenFileReader(storages, policy, counters)
        finally:
            for storage in storages:
                storage.close()
                self._findings.give_back(storage.root, storage.found)
            own.clear()  # the pipeline sees to its own
            await pool.aclose(_CLOSE_TIMEOUT)


class OpenFileReader:
    """A `FileReader` in use.

    Attributes:
        concurrency: How many reads may be under way at once.
        queue: How many may be asked for. They wait here for their turn, so that whoever asks need not know how many
            turns there are, and a thread finds the next one without the event loop.
        counters: What it did so far.
    """

    def __init__(self, storages: Sequence[Storage], policy: Policy, counters: ReadCounters) -> None:
        self.concurrency = policy.concurrency or MOST
        self.queue = 2 * MOST
        self.counters = counters
        self._policy = policy
        self._replicas = Replicas(storages, policy.grace, counters)

    def begin(self, sample: Sample, room: Room, tell: Tell, *, urgent: bool = False) -> GoOn | None:
        """Read a sample without a task, as will do for nearly all.

        Args:
            sample: What to read.
            room: What its bytes may take up.
            tell: Called on the event loop with the bytes, or with what is left to be done for them.
            urgent: Whether it goes before all others that wait for their turn.

        Returns:
            What there is to be done, if that takes a task from the start.
        """
        storage = self._replicas.preferred
        go_on = partial(self._read, sample, room, urgent=urgent)
        if not sample.path or not self._replicas.is_alone or not storage.health.is_up:
            return go_on
        try:
            part = self._replicas.part(storage, sample)
        except (AttributeError, TypeError):  # a user's path that is no text: its sample's error, as `read` has it
            return go_on
        storage.put(Ask(part, FirstTry(sample.path, storage.identities, tell, go_on), room), urgent=urgent)
        return None

    def hurry(self) -> None:
        """Have as many reads under way as may be: somebody waits, and for nothing else."""
        self._replicas.hurry()

    @property
    def answers_at_once(self) -> bool:
        """Whether samples come so fast that a thread had better read and use them up one after the other."""
        storage = self._replicas.preferred
        return self._replicas.is_alone and not storage.root and storage.gate.is_open and storage.health.is_up

    def run(
        self,
        samples: Sequence[Sample],
        use: Use,
        *,
        threads: int,
        borrow: Callable[[int], bool],
        give_back: Callable[[int], None],
        on_left: Callable[[Run, list[Left]], None],
        on_done: Callable[[Run], None],
        batch: object,
        first: int,
    ) -> None:
        """Read samples in a thread that uses them up; see `Run`.

        Args:
            samples: What to read.
            use: Called in the thread with each of them.
            threads: How many may do so at once.
            borrow: Asked for room for a large file.
            give_back: Gives it back.
            on_left: Called on the event loop, once, with what has to be read otherwise.
            on_done: Called on it when the run has ended by itself, before that.
            batch: What they are of.
            first: The slot of the first of them.
        """
        storage = self._replicas.preferred
        run = Run(
            samples, use, is_well=storage.identities.check, borrow=borrow, give_back=give_back, on_left=on_left,
            on_done=on_done, batch=batch, first=first, threads=threads, max_size=self._policy.max_size,
            devices=storage.devices,
        )  # fmt: skip
        storage.run(run)

    def go_on(self, sample: Sample, room: Room, first: Outcome | BaseException) -> GoOn:
        """Return what is left to do for a sample of which the storage has told something already."""
        return partial(self._read, sample, room, first)

    async def read(self, sample: Sample) -> bytes:
        """Return the sample's bytes.

        Raises:
            OSError: Opening or reading failed, the path is not a regular file, or holds more than `max_size`.
            FileChanged: It is not what it was, or holds fewer bytes than the sample should have.
            StorageUnresponsive: The storage is away.
        """
        return bytes((await self._read(sample)).data)

    async def timed_read(self, sample: Sample, *, urgent: bool = False) -> Timed:
        """Do the same, before all that waits and is not urgent if this is, and say how long the storage took."""
        return await self._read(sample, urgent=urgent)

    async def _read(
        self,
        sample: Sample,
        room: Room | None = None,
        first: Outcome | BaseException | None = None,
        *,
        urgent: bool = False,
    ) -> Timed:
        if not sample.path:
            raise OSError(errno.EINVAL, "has no path; write Sample(key=..., path=...) in the source")
        return await read(sample, self._policy, self._replicas, self.counters, room, first, urgent=urgent)


def _roots(roots: object) -> tuple[str, ...]:
    wrong = ConfigError(
        f"roots must be folders that hold the same tree, got {roots!r}; "
        'write roots=["/mnt/a/pictures", "/mnt/b/pictures"]'
    )
    if isinstance(roots, str | bytes) or not isinstance(roots, Sequence):
        raise wrong
    try:
        texts = tuple(os.fspath(root).rstrip(os.sep) for root in roots)
    except TypeError:
        raise wrong from None
    if len(set(texts)) < len(texts) or not all(isinstance(text, str) and text for text in texts):
        raise wrong
    return texts
