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

# Batches read ahead from which on reads take their time, so that decoding gets the cores. That many let the reads speed
# up again before decoding has to wait.
_ENOUGH_BATCHES = 8

_INTERVAL = 0.25  # seconds over which the rate of decoding is taken: some ten batches, longer than any of them varies
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
        self._batch_size = batch_size
        self._rate: float | None = None
        self._since = 0.0
        self._decoded = 0

    def decoded(self, samples: int) -> None:
        """Hear that some samples that were read ahead have been decoded."""
        self._decoded += samples
        now = monotonic()
        elapsed = now - self._since
        if elapsed >= _INTERVAL:
            if elapsed < _PAUSE:
                self._rate = self._decoded / elapsed
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
        batch = max(self._batch_size, 4 * self._threads)
        ahead = self._ahead(self.reads)
        return ahead < batch or (ahead < _MANY_BATCHES * batch and self.is_starving())

    def rate(self) -> float | None:
        """Return how many samples a second are used up, while all that decoding can take is there.

        None: it could take more, or how much it takes is not known.
        """
        reads = self.reads
        if reads is None or self.has_little_to_do() or self._ahead(reads) < _ENOUGH_BATCHES * self._batch_size:
            return None
        return self._rate

    def _ahead(self, reads: Reads) -> int:
        return reads.window.waiting + self.mailbox.put_by
