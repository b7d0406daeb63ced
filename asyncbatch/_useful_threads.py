"""How many threads are of use where each sample is a little computing and a little Python.

The interpreter serves one thread at a time. For photographs that hardly matters; for tiny pictures two threads may be
slower than one, by how much depends on what it costs this machine to wake a thread up. So that is tried.
"""

from __future__ import annotations

__all__ = ["UsefulThreads"]

# Seconds of computing a sample of which one thread more is of use, and from which on nothing needs to be tried. Some
# 20 µs of a sample are Python: 25 threads share the interpreter at the second.
_FOR_A_THREAD, _SURELY = 40e-6, 1e-3

# Where there is enough for so many times the threads that there are, all of them are of use as a rule, and nothing is
# tried at once: a trial of half of them costs half the speed meanwhile. Later it is, for a decoder may be all Python.
_ENOUGH = 2

_TRIAL = 512  # samples that a number of threads is judged by; for the small ones that is at most half a second
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 256  # trials' worth of samples until the next trial; doubled by each that fails
_FEWER, _MORE = 0.97, 0.9  # of the time that it took before: a thread more should be worth its memory and its wake-ups
_OTHER_DATA = 2.0  # times the computing a sample from which on what was found says nothing any more

_REMEMBERED = 8  # reports that the mean of the computing time follows


class UsefulThreads:
    """Finds how many threads are of use; belongs to the event loop.

    Args:
        most: There are no more.

    Attributes:
        count: How many are of use as far as is known. All of them at first.
    """

    def __init__(self, most: int) -> None:
        self.count = most
        self._most = most
        self._enough = _ENOUGH * most * _FOR_A_THREAD
        self._computing: float | None = None  # seconds a sample
        self._basis = 0.0  # the same, when the last trial ended
        self._before: tuple[int, float] | None = None  # under trial: how many there were, and seconds a sample
        self._step = 0.5  # the next trial's; if it fails, the one after it goes the other way
        self._pause = _FIRST_PAUSE
        self._ended = 0  # how many times what is measured was enough to judge
        self._forget()

    def ran(self, samples: int, computing: float, seconds: float, threads: int) -> None:
        """Hear what one thread took for some samples.

        Args:
            samples: How many.
            computing: Seconds that the thread computed.
            seconds: Seconds that it took.
            threads: How many were at it together.
        """
        mean = computing / samples
        self._computing = mean if self._computing is None else self._computing + (mean - self._computing) / _REMEMBERED
        if self._computing >= _SURELY:
            self.count = max(1, min(self._most, int(self._computing / _FOR_A_THREAD)))
            self._before, self._basis = None, self._computing
            self._forget()
        elif threads == self.count:  # and not begun before that was changed
            self._samples += samples
            self._seconds += seconds / threads
            if self._samples >= _TRIAL:
                self._judge(self._seconds / self._samples)

    def _judge(self, cost: float) -> None:
        assert self._computing is not None  # noqa: S101 - something ran
        self._forget()
        self._ended += 1
        if self._before is not None:
            count, cost_before = self._before
            self._before = None
            self._ended, self._basis = 0, self._computing
            if cost < cost_before * (_FEWER if self.count < count else _MORE):
                self._pause = _FIRST_PAUSE
                self._try(cost)  # further in the same direction
            else:
                self.count = count
                self._step = 1 / self._step
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return
        changed = max(self._computing, self._basis) > _OTHER_DATA * min(self._computing, self._basis)
        if changed and self._computing >= self._enough:
            self.count = self._most
            self._ended, self._basis = 0, self._computing
        elif changed or self._ended >= self._pause:
            self._try(cost)

    def _try(self, cost: float) -> None:
        count = self._next()
        if count == self.count:
            self._step = 1 / self._step
            count = self._next()
        if count != self.count:
            self._before = self.count, cost
            self.count = count

    def _next(self) -> int:
        return max(1, min(self._most, round(self.count * self._step)))

    def _forget(self) -> None:
        self._samples = 0
        self._seconds = 0.0
