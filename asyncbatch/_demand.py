"""How much decoding has to do, and so how much reading is of use."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncbatch._decoding import Decoding
    from asyncbatch._mailbox import Mailbox
    from asyncbatch._reads import Reads

__all__ = ["Demand"]

_MANY_BATCHES = 16  # read ahead, half a second of decoding or more: they wait behind a late one, not for more reads

# Batches read ahead from which on reads take their time, so that decoding gets the cores. The second number lets the
# reads speed up again before decoding has to wait, whatever they take; fewer will do where they are quick.
_FEW_BATCHES, _ENOUGH_BATCHES = 2, 8

# Of what decoding uses up, so much is read: half as much again until eight batches are there and decoding could go on
# while the slowest read comes, and for half as long again; from then on a little more, for the storage may become
# worse. Reading takes cores, and the interpreter, from decoding, while the caller waits.
_GETTING_AHEAD = 1.5
_COVER = 1.5
_AHEAD = 1.1

# Seconds over which the rate of decoding is taken: some ten batches, longer than any of them varies. At first a guess
# comes sooner: as long as there is none, reads take the cores from decoding, and the first batches are late.
_FIRST_INTERVAL, _INTERVAL = 0.05, 0.25
_PAUSE = 1.0  # an interval that is longer than this had a pause in it, and says nothing


class Demand:
    """What decoding needs, as far as the event loop has heard; asked from any thread, changed on the loop.

    Args:
        threads: Those that decode.
        batch_size: Samples of a batch.

    Attributes:
        incomplete: Open batches that wait for rows.
        decoding: What is asked for its jobs.
        mailbox: What is asked for reads that nobody has heard of.
        reads: What reads; None where nothing does.
    """

    decoding: Decoding
    mailbox: Mailbox

    def __init__(self, threads: int, batch_size: int) -> None:
        self.incomplete = 0
        self.reads: Reads | None = None
        self._threads = threads
        self._batch = max(batch_size, 4 * threads)  # samples that keep the threads busy for a while
        self._rate: float | None = None
        self._since = 0.0
        self._interval = _FIRST_INTERVAL
        self._decoded = 0

    def decoded(self, samples: int) -> None:
        """Hear that some samples that were read ahead have been decoded."""
        self._decoded += samples
        now = monotonic()
        elapsed = now - self._since
        if elapsed >= self._interval:
            if elapsed < _PAUSE:
                self._rate = self._decoded / elapsed
                self._interval = min(2 * self._interval, _INTERVAL)
            self._since, self._decoded = now, 0

    def has_little_to_do(self) -> bool:
        """Whether no more is to be decoded than the threads are at."""
        reads = self.reads
        runs = 0 if reads is None else reads.runs_under_way
        return self.decoding.jobs + runs <= self._threads

    def is_starving(self) -> bool:
        """Whether bytes are needed: batches wait for rows, and decode threads have or will soon have nothing to do."""
        return self.incomplete > 0 and self.decoding.jobs < 2 * self._threads

    def stands_still(self) -> bool:
        """Whether batches wait for rows, and nothing is being decoded for them."""
        return self.incomplete > 0 and not self.decoding.jobs

    def wants_more(self) -> bool:
        """Whether more reads would help: little was read ahead, or decoding waits, and not for a late one alone."""
        if self.reads is None:
            return True
        ahead = self._ahead(self.reads)
        return ahead < self._batch or (ahead < _MANY_BATCHES * self._batch and self.is_starving())

    def pace(self, slowest: float, is_found: bool) -> float | None:
        """Return how many samples a second had better be read, while all that decoding can take is there.

        None: as many as can be had, for decoding could take more, or how much it takes is not known.

        Args:
            slowest: Seconds that the slowest of late reads took.
            is_found: Whether it was found how many reads the storage can take; finding it takes many.
        """
        reads = self.reads
        if reads is None or self._rate is None or self.has_little_to_do():
            return None
        ahead, cover, enough = self._ahead(reads), _COVER * self._rate * slowest, _ENOUGH_BATCHES * self._batch
        least = min(max(cover, _FEW_BATCHES * self._batch), enough) if is_found else enough
        if ahead < least:
            return None
        return self._rate * (_AHEAD if ahead >= enough and ahead > cover else _GETTING_AHEAD)

    def _ahead(self, reads: Reads) -> int:
        return reads.window.waiting + self.mailbox.put_by
