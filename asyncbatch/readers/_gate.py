"""Whether a storage answers so fast that its files need not be read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["Gate"]

# Seconds. It opens when a tenth of the reads come within this. Page cache takes 20 µs for a photograph; on a machine
# that is shared and slow, a tenth of them came within 77 to 106. A disk that takes longer gains as well: where each
# read took 165 µs, two cores made 1.16 times as many photographs directly, and where it took 225, 1.17 times as many.
# Not when the mean does, since threads that read ahead wait for a core or for the interpreter, for milliseconds at
# times; what the storage takes shows in those that had not to.
_AT_ONCE = 150e-6

# It shuts when all but a tenth take the first, or a tenth the second: some files may be cached here, and others not.
# The mean says nothing here either, and that a reading thread has to wait for so long is rarer.
_TOO_SLOW, _SLOW = 300e-6, 0.002

# Direct reads that are not looked at after it opened, while others are still read ahead: they wait for one another.
_SETTLING = 256

# It shuts as well when so many of the latest runs broke off at a read that was far too slow. Where some files are
# cached here and others not, each of them does after a few reads, and it would take dozens of batches to see enough.
_BROKEN_OFF, _LATEST = 4, 8

# Reads that are looked at. Before it opens again, the number is doubled each time that it had to be shut.
_REMEMBERED, _MOST = 128, 4096


class Gate:
    """Opens when enough reads were fast, and shuts when some are slow or one fails; belongs to the event loop.

    Attributes:
        is_open: Whether the storage is so fast.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._needed = _REMEMBERED // 2
        self._seen = 0
        self._settling = 0
        self._unjudged = 0
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)
        self._broken_off: deque[bool] = deque(maxlen=_LATEST)

    def landed(self, times: Sequence[float], *, directly: bool, alone: bool = True, broken_off: bool = False) -> None:
        """Hear how long reads took that went well.

        While it is open those that were read ahead say nothing: they had begun before, and waited for one another.

        Args:
            times: In seconds.
            directly: Whether they were read directly.
            alone: Whether nothing waits to be read ahead.
            broken_off: Whether it was a run that ended at a read that was far too slow.
        """
        if self.is_open and not directly:
            return
        self._broken_off.append(broken_off)
        if sum(self._broken_off) >= _BROKEN_OFF:
            self.shut()
            return
        if self.is_open and self._settling > 0 and not alone:
            self._settling -= len(times)
            return
        self._settling = 0
        self._recent.extend(times)
        self._unjudged += len(times)
        if self._unjudged >= _REMEMBERED // 4:
            self._seen += self._unjudged
            self._unjudged = 0
            self._judge()

    def shut(self) -> None:
        """Hear that the storage is not so fast after all, or fails in a way that other reads may feel, too."""
        if self.is_open:
            self._needed = min(2 * self._needed, _MOST)
        self.is_open = False
        self._seen = 0
        self._broken_off.clear()

    def _judge(self) -> None:
        ranked = sorted(self._recent)
        fast, slow = ranked[len(ranked) // 10], ranked[-1 - len(ranked) // 10]
        if self.is_open:
            if fast > _TOO_SLOW or (slow > _SLOW and len(ranked) == _REMEMBERED):  # of fewer, the slow ones are chance
                self.shut()
        elif fast > _AT_ONCE:
            self._seen = 0
        elif self._seen >= self._needed:
            self.is_open = True
            self._settling = _SETTLING
            self._recent.clear()
