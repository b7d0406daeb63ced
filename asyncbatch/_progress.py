"""How far an iteration came: which batches the caller has, and what of it is worth keeping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

from asyncbatch._made import Times
from asyncbatch._types import Batch

__all__ = ["Delivery", "Passed", "Progress"]

_KEPT = 64  # failed samples of an epoch that a state names; it counts all of them


class Passed(NamedTuple):
    """A batch that is done with.

    Attributes:
        epoch: Its epoch.
        step: Its place there.
        failed: The indices of its samples, and stand-ins, that failed and were let pass.
    """

    epoch: int
    step: int
    failed: tuple[int, ...]


class Delivery(NamedTuple):
    """What the caller is given.

    Attributes:
        batch: The batch.
        passed: It, and before it those since the one before of which nothing was left.
        times: When it was made.
    """

    batch: Batch
    passed: tuple[Passed, ...]
    times: Times


class Progress:
    """The batches that are done with. They are numbered through all epochs, `steps` an epoch.

    Args:
        steps: Batches an epoch.
        first: The first batch that is not done with.
        ahead: Batches after it that are, as half-open ranges.
        skipped: Indices of the samples that failed in the epoch of `first`, as far as they are known.
        failed: How many there were.

    Attributes:
        first: As above, now.
    """

    def __init__(
        self,
        steps: int,
        first: int = 0,
        ahead: Iterable[Sequence[int]] = (),
        skipped: Sequence[int] = (),
        failed: int = 0,
    ) -> None:
        self.first = first
        self._steps = steps
        self._ahead = {number for start, stop in ahead for number in range(start, stop)}
        # Batches of which nothing was left, until those before them are done with. A state does not tell of them: there
        # can be thousands, as they wait for no caller; a resumed run finds out again.
        self._vanished: dict[int, Passed] = {}
        self._last: int | None = None  # where the iteration ends, past its last batch
        self._failed = {self.epoch: failed}  # by epoch
        self._skipped = {self.epoch: list(skipped[:_KEPT])}

    @property
    def epoch(self) -> int:
        """The epoch of the first batch that is not done with."""
        return self.first // self._steps

    @property
    def step(self) -> int:
        """Its place there."""
        return self.first % self._steps

    @property
    def skipped(self) -> Sequence[int]:
        """The indices of samples that failed in that epoch, the first few."""
        return self._skipped.get(self.epoch, ())

    @property
    def failed(self) -> int:
        """How many failed."""
        return self._failed.get(self.epoch, 0)

    @property
    def delivered(self) -> int:
        """How many batches of that epoch are done with."""
        end = (self.epoch + 1) * self._steps
        return self.step + sum(number < end for number in self._ahead)

    def ahead(self) -> list[list[int]]:
        """Return the batches after the first that are done with, as half-open ranges from it."""
        ranges: list[list[int]] = []
        for number in sorted(self._ahead):
            offset = number - self.first
            if ranges and ranges[-1][1] == offset:
                ranges[-1][1] += 1
            else:
                ranges.append([offset, offset + 1])
        return ranges

    def left(self, epochs: int | None) -> Iterator[int]:
        """Yield the batches to come up to the end of so many epochs, this one included; None: for ever."""
        done = frozenset(self._ahead)
        self._last = None if epochs is None else (self.epoch + epochs) * self._steps
        numbers = count(self.first) if self._last is None else range(self.first, self._last)
        return (number for number in numbers if number not in done)

    def deliver(self, passed: Sequence[Passed]) -> None:
        """Hear of a batch that the caller has, the last of these; of those before it nothing was left."""
        *vanished, delivered = passed
        self._vanished.update((one.epoch * self._steps + one.step, one) for one in vanished)
        self._ahead.add(delivered.epoch * self._steps + delivered.step)
        self._note(delivered)
        self._advance()

    def finish(self) -> None:
        """Hear that the iteration came to its end."""
        if self._last is not None:
            self._ahead.update(range(self.first, self._last))
            self._advance()

    def _note(self, one: Passed) -> None:
        if one.failed:
            self._failed[one.epoch] = self._failed.get(one.epoch, 0) + len(one.failed)
            known = self._skipped.setdefault(one.epoch, [])
            known += one.failed[: _KEPT - len(known)]

    def _advance(self) -> None:
        while self.first in self._ahead or self.first in self._vanished:
            if (vanished := self._vanished.pop(self.first, None)) is not None:
                self._note(vanished)
            self._ahead.discard(self.first)
            self.first += 1
        for epoch in [epoch for epoch in self._failed if epoch < self.epoch]:
            del self._failed[epoch]
            self._skipped.pop(epoch, None)
