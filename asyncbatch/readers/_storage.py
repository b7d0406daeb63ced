"""One storage, a mount or a disk, with all that is known of it while it is read."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from asyncbatch._errors import describe
from asyncbatch._mailbox import Mailbox
from asyncbatch._types import ReadCounters
from asyncbatch.readers._fates import Fate, ReadTimeout, fate_of
from asyncbatch.readers._flight import Ask, Flight
from asyncbatch.readers._found import Found
from asyncbatch.readers._health import Health
from asyncbatch.readers._identity import Identities
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._queue import ReadQueue
from asyncbatch.readers._run import Run
from asyncbatch.readers._watch import Watch
from asyncbatch.readers._whole import PutOff, Readable

__all__ = ["Policy", "Storage"]

_SLOW = 0.95  # quantile of the latencies from which on a read is slow
_SLOWEST = 0.999  # of those remembered, the very slowest
_SLOW_AT_FIRST = 1.0  # seconds, a guess, while too few latencies are known


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How reads are done; the fields of `FileReader`, checked.

    Attributes:
        concurrency: Reads at once; None finds it.
        timeout: Seconds without progress after which a read hangs; None takes them from observed latencies.
        retries: Further tries after an error that may pass.
        backoff: Seconds before the first of them.
        max_lost: Threads that may be stuck at a time.
        grace: Seconds that the storage may be away.
        max_size: Bytes of the largest sample.
    """

    concurrency: int | None
    timeout: float | None
    retries: int
    backoff: float
    max_lost: int
    grace: float
    max_size: int


class Storage:
    """Reads files of one tree; belongs to the event loop.

    Args:
        root: Where the tree is mounted; empty for files anywhere.
        found: What was found of it so far.
        policy: How reads are done.
        pool: The threads.
        mailbox: From them to the loop.
        counters: What is done is counted here.
        wants_more: Whether decoding would use up more than it gets.
        pace: How many files a second had better be read, by what the slowest takes, and by whether it was found how
            many at once are best; None for as many as can be had.
        on_crash: Called with an error that is no sample's.
        has_replica: Whether the same tree is to be had elsewhere, so that nothing needs to wait for this one.

    Attributes:
        root: As it was given.
        found: As it was given, and more.
        latencies: Of it, how long its reads take.
        tuner: How many reads it is given at once.
        gate: Whether it answers at once.
        health: Whether it is there.
        identities: What its files looked like.
    """

    def __init__(
        self,
        root: str,
        found: Found,
        policy: Policy,
        pool: DaemonThreadPool,
        mailbox: Mailbox,
        counters: ReadCounters,
        *,
        wants_more: Callable[[], bool],
        pace: Callable[[float, bool], float | None],
        on_crash: Callable[[BaseException], None],
        has_replica: bool,
    ) -> None:
        self.root = root
        self._counters = counters
        self._wants_more = wants_more
        self._pace = pace
        self._policy = policy
        self.found = found
        self.latencies, self.tuner, self.gate = found.latencies, found.tuner, found.gate
        self.identities = Identities()
        self._queue = ReadQueue(
            pool,
            self.tuner,
            mailbox,
            policy.max_size,
            on_busy=self._asked,
            on_landed=self._landed,
            on_take_off=self._took_off if has_replica else None,
            on_run=self._ran,
            on_crash=on_crash,
        )
        # Where there is a replica, being away costs nothing but looking again now and then.
        grace = math.inf if has_replica else policy.grace
        self.health = Health(
            self._queue, grace, root or "the storage", on_down=self._turn_away if has_replica else lambda error: None
        )
        self._watch = Watch(
            self._queue,
            deadline=self._deadline,
            grace=grace,
            may_give_up=lambda: pool.lost < policy.max_lost,
            on_given_up=self._given_up,
            on_silent=self._fell_silent if has_replica else lambda: None,
            on_dead=self.health.die,
        )
        self._tell()

    def put(self, ask: Ask, *, urgent: bool = False) -> None:
        """Have something read in its turn, or next; its answer fails with what the read failed with."""
        self._queue.put(ask, urgent=urgent)

    def run(self, run: Run) -> None:
        """Have a run carried out in its turn, by one of as many threads as it says."""
        self._queue.direct.limit = run.threads
        self._queue.direct.put(run)
        self._watch.began()

    @property
    def devices(self) -> Mapping[int, str]:
        """An example of each file system that was read, by its number."""
        return self._queue.devices

    def scarce(self, under_way: int | None = None) -> None:
        """Fewer reads at once: this process lacks what they need.

        Args:
            under_way: How many there are; None for as many as have begun.
        """
        self.tuner.scarce(len(self._queue.flying) if under_way is None else under_way)
        self._tell()

    def hurry(self) -> None:
        """Have as many reads under way as may be."""
        if self.tuner.is_paced:
            self.tuner.keep_pace(None, None)
            self._queue.look()

    def close(self) -> None:
        """Begin nothing any more."""
        self._watch.close()
        self.health.close()
        self._queue.close()
        self.identities.close()

    def _tell(self) -> None:
        self._counters.concurrency, self._counters.group = self.tuner.limit, self.tuner.group

    def _deadline(self) -> float:
        return self.latencies.deadline() if self._policy.timeout is None else self._policy.timeout

    def _asked(self) -> None:
        self._watch.began()

    def _took_off(self, flight: Flight) -> None:
        if flight in self._queue.flying:
            slow = self.latencies.quantile(_SLOW)
            seconds = len(flight.parts) * (_SLOW_AT_FIRST if slow is None else slow)
            flight.alarm = asyncio.get_running_loop().call_later(seconds, flight.is_slow)

    def _landed(self, flights: Sequence[Flight]) -> None:
        is_the_limit = self._queue.others_wait and not self.tuner.is_paced and self._wants_more()
        for flight in flights:
            if flight.results and not any(isinstance(result, PutOff) for result in flight.results):
                seconds = sum(flight.times) / len(flight.times)
                self.latencies.add(seconds)
                self.tuner.landed(seconds, flight.generation, is_the_limit=is_the_limit)
                self.gate.landed(flight.times, directly=False)
            for part, result in zip(flight.parts, flight.results, strict=False):
                self._answered(part, result if isinstance(result, Exception) else None)
        slowest = self.latencies.quantile(_SLOWEST) or 0.0
        self.tuner.keep_pace(self._pace(slowest, self.tuner.is_found), self.latencies.mean())
        self._tell()
        self._watch.landed()

    def _ran(self, run: Run) -> None:
        if run.count:
            self.latencies.add(sum(run.times) / run.count)
            alone = not self._queue.others_wait
            self.gate.landed(run.times, directly=True, alone=alone, broken_off=run.broken_off)
        if run.count > len(run.troubles):
            self._answered(run.parts[0], None)
        for place, what in run.troubles:
            self._answered(run.parts[place], what if isinstance(what, Exception) else None)
        if not self.gate.is_open:
            self._queue.direct.withdraw()
        self._watch.landed()

    def _answered(self, part: Readable, error: Exception | None) -> None:
        if error is not None and fate_of(error) is not Fate.FINAL:
            self.gate.shut()
        self.health.answered(part, error)

    def _given_up(self) -> None:
        self._counters.timeouts += 1
        self.gate.shut()

    def _turn_away(self, error: Exception) -> None:
        """Let the replica read what waits here."""
        code = error.errno if isinstance(error, OSError) else None
        self._queue.fail_all(lambda: OSError(code or errno.EIO, describe(error)))

    def _fell_silent(self) -> None:
        self.health.fell_silent()
        self._queue.fail_all(lambda: ReadTimeout(self._deadline()))
