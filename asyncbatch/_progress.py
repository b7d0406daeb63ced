"""How far an iteration came: which batches the caller has, and what of it is worth keeping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from asyncbatch._errors import SampleError

__all__ = ["Progress"]

_KEPT = 64  # skipped samples of an epoch that a state names; it counts all of them


class Progress:
    """The batches that were delivered. They are numbered through all epochs, `steps` an epoch.

    Args:
        steps: Batches an epoch.
        first: The first batch that was not delivered.
        ahead: Batches after it that were, as half-open ranges.
        skipped: Indices of the samples that were skipped or replaced in the epoch of `first`, as far as they are known.
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
        self._epoch = first // steps  # that the next two are of
        self._skipped = list(skipped)
        self._failed = failed

    @property
    def epoch(self) -> int:
        """The epoch of the first batch that was not delivered."""
        return self.first // self._steps

    @property
    def step(self) -> int:
        """Its place there."""
        return self.first % self._steps

    @property
    def skipped(self) -> list[int]:
        """The indices of samples that failed in that epoch, the first few."""
        return self._skipped if self._epoch == self.epoch else []

    @property
    def failed(self) -> int:
        """How many failed."""
        return self._failed if self._epoch == self.epoch else 0

    @property
    def delivered(self) -> int:
        """How many batches of that epoch were delivered."""
        end = (self.epoch + 1) * self._steps
        return self.step + sum(number < end for number in self._ahead)

    def ahead(self) -> list[list[int]]:
        """Return the batches after the first that were delivered, as half-open ranges from it."""
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
        numbers = count(self.first) if epochs is None else range(self.first, (self.epoch + epochs) * self._steps)
        return (number for number in numbers if number not in done)

    def deliver(self, epoch: int, step: int, errors: Sequence[SampleError], *, in_order: bool) -> None:
        """Hear of a batch that the caller has now.

        Args:
            epoch: Its epoch.
            step: Its place there.
            errors: What was let pass since the one before.
            in_order: Those before it are done with, too: the caller has them, or all of their samples were skipped.
        """
        number = epoch * self._steps + step
        if errors:
            if self._epoch != epoch:
                self._epoch, self._skipped, self._failed = epoch, [], 0
            self._skipped += [error.index for error in errors][: _KEPT - len(self._skipped)]
            self._failed += len(errors)
        if in_order:
            self.first = number + 1
            return
        self._ahead.add(number)
        while self.first in self._ahead:
            self._ahead.remove(self.first)
            self.first += 1
