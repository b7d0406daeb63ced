"""Where the caller of a loader is, and where its next iteration begins."""

from __future__ import annotations

from asyncbatch._progress import Delivery, Progress

__all__ = ["Place"]


class Place:
    """Hears what is delivered, through all iterations of a loader.

    Args:
        steps: Batches an epoch.

    Attributes:
        progress: Of the latest iteration.
        resumed: Where the next one is to begin, if that was said since.
    """

    def __init__(self, steps: int) -> None:
        self.progress = Progress(steps)
        self.resumed: Progress | None = None
        self._steps = steps
        self._next_epoch = 0

    @property
    def latest(self) -> Progress:
        """How far the caller came, or where it asked to go on."""
        return self.resumed or self.progress

    def next(self) -> Progress:
        """Return where the next iteration begins: what came early of an epoch is not made again."""
        begin = self.latest
        if begin is self.progress and begin.epoch != self._next_epoch:
            return self._start_of(self._next_epoch)
        return begin

    def begin(self, progress: Progress) -> None:
        """Hear that an iteration has begun."""
        self.progress, self.resumed = progress, None
        self._next_epoch = progress.epoch  # until a batch of it is delivered: some ask for an iterator and drop it

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin with an epoch, unless it is to begin within it anyway."""
        if self.resumed is None or self.resumed.epoch != epoch:
            self.resumed = self._start_of(epoch)

    def hear(self, delivery: Delivery | None) -> None:
        """Take note of what the caller was given; None is the end of the iteration."""
        if delivery is None:
            self.progress.finish()
            self._next_epoch = max(self._next_epoch, self.progress.epoch)
            return
        self.progress.deliver(delivery.passed)
        self._next_epoch = max(self._next_epoch, delivery.batch.epoch + 1)

    def _start_of(self, epoch: int) -> Progress:
        return Progress(self._steps, epoch * self._steps)
