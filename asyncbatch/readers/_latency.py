"""How long reads take lately, and so how long is too long."""

from __future__ import annotations

from collections import deque

__all__ = ["Latencies"]

_REMEMBERED = 512  # reads: enough for a 99th percentile, few enough to follow the mount
_REFRESHED = 32  # reads after which percentiles are taken anew; sorting 512 numbers costs some 20 µs

# A deadline is for reads that never end. Short of it a slow answer is cheaper than a lost thread and a lost sample, so
# it is far beyond what was seen: eight times the 99th percentile. Servers that restart take seconds to answer.
_BEYOND = 8.0
_FLOOR = 10.0
_LONGEST = 120.0


class Latencies:
    """The last reads' latencies, in seconds."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)
        self._sorted: list[float] = []
        self._mean: float | None = None
        self._new = 0

    def add(self, seconds: float) -> None:
        """Take note of a read."""
        self._recent.append(seconds)
        self._new += 1

    def quantile(self, share: float) -> float | None:
        """Return the latency that `share` of the reads stayed below, None while too few were seen to tell."""
        self._look()
        return self._sorted[int(share * len(self._sorted))] if self._sorted else None

    def mean(self) -> float | None:
        """Return their mean, None while too few were seen to tell."""
        self._look()
        return self._mean

    def deadline(self) -> float:
        """Return after how many seconds without an answer a read is taken to hang."""
        slow = self.quantile(0.99)
        return _FLOOR if slow is None else min(_LONGEST, max(_FLOOR, _BEYOND * slow))

    def _look(self) -> None:
        if self._new >= _REFRESHED:
            self._sorted = sorted(self._recent)
            self._mean = sum(self._sorted) / len(self._sorted)
            self._new = 0
