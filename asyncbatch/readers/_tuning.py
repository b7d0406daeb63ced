"""How many reads at once, found by trying.

By Little's law n reads under way that take L seconds each give n / L reads a second. As long as the storage has room, L
stays and the rate grows with n; where something is full, the storage's own queue, its line, or this machine's cores, L
grows instead. So the tuner raises n while that raises n / L, settles, and looks around now and then, as well as when L
changes by itself because the mount became faster or slower. TCP finds its window in the same way (slow start: Jacobson,
"Congestion Avoidance and Control", 1988; the use of L: Brakmo and Peterson, "TCP Vegas", 1995).

Two things keep it honest. L is a median, so one read in a hundred that comes seconds late does not count. And only
reads are looked at that ended while others waited for their turn and little lay ready to be decoded: otherwise decoding
or the caller is the limit, more reads would help nobody, and n stays where it is.
"""

from __future__ import annotations

import math
import random
from statistics import median
from time import monotonic

__all__ = ["MOST", "Tuner"]

MOST = 512
"""The most reads at once that are tried: at 100 ms they give 5,000 files a second, all that one process can take."""

_FIRST = 8  # storage is not met with a herd

# Seconds a file. Page cache and local disks are faster than this, no mount across a network is. There a thread reads
# several files, one after the other: hops cost more than reads (of 119 µs CPU a file 71 are left at groups of 8, 64 at
# 32), and more than two such threads only fight for the interpreter.
_FAST = 0.001
_GROUP = 8
_FAST_HOPS = 2

_WORTH = 0.15  # of the growth in n must be seen in the rate; less is noise, or a queue that grows
_LEAP = 4.0  # while there are few: three steps to a hundred reads, and a first batch as soon
_GROWTH = 2.0
_MANY = 32
_PROBE = 1.5
_SHIFT = 1.5  # a median that differs by more is another storage than the one that n was found for
_PATIENCE = 2.0  # seconds settled before the first look around; doubled up to the second number while none helps
_LONGEST_PATIENCE = 60.0
_SCARCITY = 10.0  # seconds without a lack of descriptors, threads or memory before more is tried again


class Tuner:
    """Decides how many reads may be under way; belongs to the event loop.

    Args:
        fixed: The number to keep to; None finds it.
        in_groups: Whether one hop may read several files where that is faster: hops are to threads, then.

    Attributes:
        limit: How many hops may be under way.
        group: How many files share a hop.
        generation: Changes with `limit`; a read that begins notes it.
        is_found: Whether it is known by and large how many are best: to find out takes more reads than are needed.
    """

    def __init__(self, fixed: int | None, *, in_groups: bool = True) -> None:
        self._fixed = fixed
        self.is_found = fixed is not None
        self._in_groups = in_groups
        self._target = fixed or _FIRST
        self._ceiling = MOST if fixed is None else fixed
        self._scarce_since = 0.0
        self.generation = 0
        self._seconds = _FAST  # a file, the mean of late ones: not fast until measured
        self._is_fast = False
        self._times: list[float] = []
        self._warming = 0  # reads of this generation that are not looked at yet
        self._best = (0, 0.0)  # limit and rate
        self._step = _LEAP  # what the limit was last multiplied with; 1.0 when settled
        self._patience = _PATIENCE
        self._settled_at = 0.0
        self._next_probe = 1 / _PROBE
        self._paced = math.inf  # hops; no end to them where reads need not keep pace
        self._doubts = False  # whether the mount still is what it was
        self._is_slower = False  # the mount, and it is not known yet whether fewer reads or more of them help

    @property
    def limit(self) -> int:
        limit = min(self._target, self._ceiling)
        return min(limit, _FAST_HOPS) if self._is_fast and self._fixed is None else limit

    @property
    def most(self) -> int:
        """How many hops are to be under way: `limit`, or as many as keep up with decoding."""
        return int(min(self.limit, self._paced))

    @property
    def is_paced(self) -> bool:
        """Whether these are fewer than `limit`."""
        return self._paced < self.limit

    @property
    def group(self) -> int:
        return _GROUP if self._is_fast else 1

    def begin_anew(self) -> None:
        """Hear that another iteration begins: what was found stays, and what is not judged yet is measured again."""
        self._move(self._target)
        self._paced = math.inf
        self.is_found = self.is_found or self._best[0] > 0

    def landed(self, seconds: float, generation: int, *, is_the_limit: bool) -> None:
        """Take note of a hop.

        Args:
            seconds: How long it took a file.
            generation: Of the time when it began.
            is_the_limit: Whether others wait for their turn, and decoding for what they bring.
        """
        self._seconds += (seconds - self._seconds) / 8
        self._recover()
        # Two thresholds, lest a storage between them is taken for one and the other in turn.
        is_fast = self._in_groups and self._seconds < (2 * _FAST if self._is_fast else _FAST)
        if is_fast != self._is_fast:
            self._is_fast = is_fast
            self._start_anew(self._target if self._fixed is not None else _FIRST)
        elif self._fixed is None and not is_fast and generation == self.generation and is_the_limit:
            self._times.append(seconds)
            limit = self.limit
            if self._warming:
                self._warm_up(limit)
                return
            # Where a queue builds up at all, it has done so after as many reads as there are at once. Fewer than 32 say
            # little where latencies scatter; but the first steps, from a few reads on, are to be quick ones.
            enough = max(_MANY, limit) if limit > _MANY or self._step != _LEAP else limit // 2
            if len(self._times) >= max(_FIRST, enough):
                self._decide(limit, median(self._times[-max(_FIRST, enough // 2) :]))
                self._times.clear()

    def keep_pace(self, rate: float | None, seconds: float | None) -> None:
        """Let no more reads be under way than are needed, by Little's law.

        What is read beyond that takes cores, and the interpreter, from decoding, while the caller waits.

        Args:
            rate: Files a second that are needed; None for as many as can be had.
            seconds: What a read takes on average; None while that is not known.
        """
        was_paced, paced = self.is_paced, math.inf  # and no other number on the way: threads look at it
        if rate is not None and seconds is not None and self._fixed is None and not self._is_fast:
            paced = max(_FIRST, self.limit // 4, math.ceil(rate * seconds))
        self._paced = paced
        if was_paced and not self.is_paced:
            self._move(self._target)  # reads that began before were fewer, and say nothing of so many

    def hung(self) -> None:
        """Hear that a read hangs: those that share hops no longer wait for one another, until reads are fast again."""
        if self._is_fast:
            self._is_fast, self._seconds = False, 2 * _FAST
            self._start_anew(self._target if self._fixed is not None else _FIRST)

    def scarce(self, under_way: int) -> None:
        """Halve: this process lacks descriptors, threads or memory for so many reads."""
        if monotonic() - self._scarce_since > 0.1 or under_way < self.limit:  # once for a herd that failed together
            self._ceiling = max(1, min(self.limit, under_way) // 2)
            self._move(max(1, min(self._target, self._ceiling)) if self._fixed is None else self._target)
            self._step = 1.0
        self._scarce_since = monotonic()

    def _recover(self) -> None:
        most = MOST if self._fixed is None else self._fixed
        if self._ceiling < most and monotonic() - self._scarce_since > _SCARCITY:
            self._ceiling = min(most, 2 * self._ceiling)
            self._scarce_since = monotonic()

    def _warm_up(self, limit: int) -> None:
        """Let the storage feel how many there are now, unless it is plain already that they are too many."""
        self._warming -= 1
        recent = self._times[-_FIRST:]
        if self._step > 1.0 and len(recent) == _FIRST and limit / median(recent) < self._best[1]:
            self._too_many()
        elif not self._warming:
            self._times.clear()

    def _decide(self, limit: int, seconds: float) -> None:
        rate = limit / seconds
        if self._step > 1.0:
            self._look_up(limit, rate)
        elif self._step < 1.0:
            self._look_down(limit, rate)
        else:
            self._look_at_settled(limit, rate)

    def _look_up(self, limit: int, rate: float) -> None:
        """More reads: go on while they are worth it."""
        best_limit, best_rate = self._best
        wanted = best_rate * (1 + _WORTH * (limit / best_limit - 1)) if best_limit else 0.0
        if rate >= best_rate:
            self._best = (limit, rate)
        if rate >= wanted and limit < self._ceiling:
            self._patience = _PATIENCE
            self._multiply(min(self._step, _GROWTH) if limit >= _MANY else self._step)
        else:
            self._too_many()

    def _too_many(self) -> None:
        """Go back to the best number known: after a leap by what was leapt over, after growth see if fewer do."""
        self._target = self._best[0]
        if self._step > _GROWTH:
            self._multiply(self._step / _GROWTH)
        elif self._step > _PROBE:
            self._multiply(1 / _PROBE)
        else:
            self._settle()

    def _look_down(self, limit: int, rate: float) -> None:
        """Fewer reads: go on while nothing is lost; the storage and this process have better uses for them."""
        if rate >= 0.97 * self._best[1]:
            self._best = (limit, max(rate, self._best[1]))
            self._patience = _PATIENCE
            if limit > _FIRST // 2:
                self._multiply(self._step)
                return
        elif self._is_slower:
            self._is_slower = False
            self._target = self._best[0]
            self._multiply(_GROWTH)
            return
        self._settle()

    def _look_at_settled(self, limit: int, rate: float) -> None:
        expected = self._best[1]
        is_another = limit != self._best[0] or not expected / _SHIFT < rate < expected * _SHIFT
        if is_another and not self._doubts:
            self._doubts = True  # once may be chance, where latencies scatter
        elif is_another:
            # The mount became slower or faster: what was learnt of it no longer holds. If it is slower that may be for
            # these very reads, so fewer are tried first: that costs a moment, and more of them would cost seconds.
            self._is_slower = rate < expected
            self._best = (limit, rate)
            self._patience = _PATIENCE
            self._multiply(1 / _GROWTH if self._is_slower else _GROWTH)
        else:
            self._doubts = False
            self._best = (limit, expected + (rate - expected) / 4)
            self._look_around()

    def _look_around(self) -> None:
        # Not all loaders of a cluster at the same time.
        patience = self._patience * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, keeps no secret
        if monotonic() > self._settled_at + patience:
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
            self._next_probe = 1 / self._next_probe
            self._multiply(1 / self._next_probe)

    def _multiply(self, factor: float) -> None:
        self._step = factor
        target = round(self._target * factor)
        if factor > 1.0:
            target = max(target, self._target + 1)
        self._move(min(self._ceiling, max(1, target)))

    def _settle(self) -> None:
        self._step = 1.0
        self.is_found = True
        self._doubts = False
        self._settled_at = monotonic()
        self._move(self._best[0])

    def _start_anew(self, target: int) -> None:
        self.is_found = self._fixed is not None
        self._best = (0, 0.0)
        self._step = _LEAP
        self._move(target)

    def _move(self, target: int) -> None:
        # As many as there are at once begin before the storage feels all of them: their latency is still the old one.
        self._warming = min(target, self._ceiling) if self._best[0] else 0
        self._target = target
        self.generation += 1
        self._times.clear()
