"""Who sits in the slots of a batch: the samples that were planned, stand-ins for those that failed, and the errors.

Each slot is worked on by one thread at a time, so nothing here is locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncbatch._errors import AsyncbatchError, FileChanged, ReadError, SampleChanged, SampleError, describe
from asyncbatch._planning import PlannedBatch, StandIn
from asyncbatch._types import Sample

__all__ = ["Seating"]


class Seating:
    """The slots of one batch.

    Args:
        planned: Who was to sit in them.

    Attributes:
        errors: What is raised whatever may be let pass, by slot; one past the last is for what all rows are to blame.
        labels: Those that came with the pictures, by slot; empty where the source said them beforehand.
    """

    def __init__(self, planned: PlannedBatch) -> None:
        self._planned = planned
        self._failures: dict[int, list[SampleError]] = {}  # of each slot: its sample's, then those of its stand-ins
        self._stand_ins: dict[int, StandIn] = {}
        self.errors: dict[int, AsyncbatchError] = {}
        self.labels: dict[int, Any] = {}
        if planned.error is not None:
            self.errors[0] = planned.error

    @property
    def as_planned(self) -> bool:
        """Whether no sample failed."""
        return not self._failures

    @property
    def replaced(self) -> int:
        """How many slots have a stand-in."""
        return len(self._stand_ins)

    @property
    def failures(self) -> list[SampleError]:
        """The errors that may be let pass, in the order of the slots, up to the one that will raise."""
        if not self._failures:  # as a rule
            return []
        last = min(self.errors, default=len(self._planned.samples))
        return [error for slot in sorted(self._failures) if slot <= last for error in self._failures[slot]]

    def kept(self) -> list[int]:
        """Return the slots that have a row once all have settled."""
        if not self._failures:
            return [*range(len(self._planned.samples))]
        lost = self._failures.keys() - self._stand_ins.keys()
        return [slot for slot in range(len(self._planned.samples)) if slot not in lost]

    def occupant(self, slot: int) -> tuple[int, Sample]:
        """Return the index and the sample whose row the slot is for."""
        if (stand_in := self._stand_ins.get(slot)) is not None:
            return stand_in.index, stand_in.sample
        return int(self._planned.indices[slot]), self._planned.samples[slot]

    def attempts(self, slot: int) -> Sequence[SampleError]:
        """Return the errors of the slot's sample and of its stand-ins so far."""
        return self._failures.get(slot, ())

    def seat(self, slot: int, stand_in: StandIn) -> None:
        """Have the slot filled by another sample."""
        self._stand_ins[slot] = stand_in

    def vacate(self, slot: int, error: SampleError) -> None:
        """Hear that the slot's sample, or its stand-in, failed."""
        self._failures.setdefault(slot, []).append(error)
        self._stand_ins.pop(slot, None)

    def give_up(self, slot: int, error: AsyncbatchError | None) -> None:
        """Raise for a slot: an error, or that of its own sample."""
        self.errors[slot] = error or self._failures[slot][0]

    def error_of(self, slot: int, kind: type[SampleError], cause: BaseException) -> AsyncbatchError:
        """Return what a slot's failure is in words: its sample's error, or what a reader says of the whole storage."""
        if kind is ReadError and isinstance(cause, FileChanged):
            kind = SampleChanged
        elif kind is ReadError and isinstance(cause, AsyncbatchError) and not isinstance(cause, SampleError):
            return cause
        index, sample = self.occupant(slot)
        attempts = getattr(cause, "attempts", 1)
        error = kind(
            sample.key,
            index,
            describe(cause),
            errno=cause.errno if isinstance(cause, OSError) else None,
            attempts=attempts if isinstance(attempts, int) else 1,
        )
        error.__cause__ = cause
        return error
