"""How long reads took: counted by buckets that grow with the time, and the slowest by name."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asyncbatch._types import Sample

__all__ = ["ReadLatency", "ReadTimes", "SlowRead"]

_AN_OCTAVE = 4  # buckets from a time to its double: a quantile is known to 19 %, whatever the times are
_SHORTEST, _LONGEST = -20, 17  # powers of two, in seconds: 1 µs and a day and a half; what is beyond counts as these
_BOUNDS = tuple(2 ** (step / _AN_OCTAVE) for step in range(_AN_OCTAVE * _SHORTEST, _AN_OCTAVE * _LONGEST + 1))
_SLOWEST = 10  # reads that are kept by name


class SlowRead(NamedTuple):
    """A read that took long.

    Attributes:
        seconds: How long.
        key: The sample's key.
    """

    seconds: float
    key: str


@dataclass(frozen=True, slots=True)
class ReadLatency:
    """How long reads took, one by one: those that went well, each try by itself.

    Attributes:
        buckets: (upper bound in seconds, reads that took at most so long and longer than the bound before), ascending.
            Each bound is 2^¼ of the one before it; buckets without a read are left out.
    """

    buckets: tuple[tuple[float, int], ...] = ()

    @property
    def count(self) -> int:
        """How many reads there were."""
        return sum(count for _, count in self.buckets)

    def quantile(self, share: float) -> float:
        """Return the seconds that `share` of the reads, 0 to 1, stayed below, within 19 %; 0 without any read."""
        wanted = share * self.count
        for bound, count in self.buckets:
            if wanted <= count:
                return bound * 2 ** ((wanted / count - 1) / _AN_OCTAVE)
            wanted -= count
        return 0.0

    def since(self, earlier: ReadLatency) -> ReadLatency:
        """Return what came after an earlier one."""
        before = dict(earlier.buckets)
        left = ((bound, count - before.get(bound, 0)) for bound, count in self.buckets)
        return ReadLatency(tuple((bound, count) for bound, count in left if count))


class ReadTimes:
    """Counts reads; belongs to the event loop, but for the snapshots."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._slowest: list[SlowRead] = []  # a heap

    def add(self, times: Sequence[float], samples: Sequence[Sample]) -> None:
        """Take note of how many seconds the reads of some samples took; one at least."""
        counts = self._counts
        for seconds in times:
            counts[bisect_left(_BOUNDS, seconds)] += 1
        if len(self._slowest) < _SLOWEST or max(times) > self._slowest[0].seconds:
            for read in map(SlowRead, times, (sample.key for sample in samples)):
                if len(self._slowest) < _SLOWEST:
                    heapq.heappush(self._slowest, read)
                else:
                    heapq.heappushpop(self._slowest, read)

    def latency(self) -> ReadLatency:
        """Return the counts so far."""
        counts = self._counts.copy()  # in one step: the loop counts on meanwhile
        beyond = counts.pop()
        counts[-1] += beyond
        return ReadLatency(tuple((bound, count) for bound, count in zip(_BOUNDS, counts, strict=True) if count))

    def slowest(self) -> tuple[SlowRead, ...]:
        """Return the slowest reads so far, the slowest first."""
        return tuple(sorted(self._slowest.copy(), reverse=True))
