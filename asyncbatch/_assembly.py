"""One batch while it is being made: slots filled in any order by any thread, then a `MadeBatch`.

A decoder that knows the shape of its rows writes into the batch itself, so there is no stack and no second copy. For
one that does not, rows are kept until all are there, since only then their common shape is known.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

import numpy as np

from asyncbatch._errors import AsyncbatchError, DecodeError, SampleError, SourceError, describe
from asyncbatch._made import MadeBatch, Times
from asyncbatch._memory import BatchMemory
from asyncbatch._planning import PlannedBatch, stack_fetched, stack_labels_with
from asyncbatch._seating import Seating
from asyncbatch._types import Array, Decoder, Indices, KeptRows

__all__ = ["Assembly", "OnFailure"]

OnFailure = Callable[["Assembly", int], None] | Literal["raise", "skip"]
"""What becomes of a slot whose sample failed: the batch raises, goes without it, or somebody is told that it needs a
stand-in and owes the slot a `seat` or a `give_up`."""


class Assembly:
    """A batch being made.

    `decode`, `fill`, `fail` and `seal` may be called from any thread; the others belong to the event loop. `decode`,
    `fill`, `fail` and `give_up` return True to the one call that completes the batch, which then owes it a `seal`.

    Args:
        planned: What it will hold.
        decoder: Bytes → row; None for rows that come ready from memory.
        memory: Where the batch's array comes from.
        seed: The loader's seed.
        on_failure: What becomes of a slot whose sample failed.

    Attributes:
        seating: Which samples its slots are for, and what failed of them.
        read_at: When its last bytes came so far, in seconds of `time.perf_counter()`; 0 where none were asked for.
        reading: The share, 0 to 1, of the time from then on that is reading; above 0 where a thread reads and decodes
            in one go.
        complete_at: When it was complete; 0 before.
    """

    def __init__(
        self,
        planned: PlannedBatch,
        decoder: Decoder | None,
        memory: BatchMemory,
        seed: int,
        on_failure: OnFailure = "raise",
    ) -> None:
        self.planned = planned
        self.seating = Seating(planned)
        self.is_open = False
        self.read_at = 0.0
        self.reading = 0.0
        self.complete_at = 0.0
        self._decoder = decoder
        self._memory = memory
        self._seed = seed
        self._lock = threading.Lock()
        self._spent = 0.0, 0.0  # seconds, on fetching and on decoding
        self._missing = len(planned.samples)  # slots that have neither a row nor an error
        self._on_failure = on_failure
        self._held: list[tuple[int, Any]] = []
        self._labels: Array | None = None
        self._images: Array | None = None
        self._rows: list[Array] = []

    @property
    def will_raise(self) -> bool:
        """Whether its delivery will raise."""
        return bool(self.seating.errors)

    @property
    def is_void(self) -> bool:
        """Whether every slot has settled and none has a row."""
        return self._missing == 0 and not self.seating.kept()

    def give_up(self, slot: int, error: AsyncbatchError | None = None) -> bool:
        """Let the batch raise, for want of a stand-in: the error of the slot's own sample, or another."""
        self.seating.give_up(slot, error)
        return self._settle(1)

    def hold(self, slot: int, data: Any) -> None:
        """Keep bytes that came before the batch was opened."""
        self._held.append((slot, data))

    def open(self) -> list[tuple[int, Any]]:
        """Let rows come; return the (slot, bytes) that were held for it."""
        self.is_open = True
        decoder = self._decoder
        if decoder is None or decoder.row_shape is None or decoder.row_dtype is None:
            self._rows = [_NO_ROW] * len(self.planned.samples)
        held, self._held = self._held, []
        return held

    def decode(self, slot: int, data: Any) -> bool:
        """Make a row of a sample's bytes, or record why it could not be made."""
        planned, decoder = self.planned, self._decoder
        assert decoder is not None  # noqa: S101 - without one, rows come by `fill`
        out = None if self._rows else self._array()[slot]
        try:
            row = decoder.decode(data, out, (self._seed, planned.epoch, self.seating.occupant(slot)[0]))
            if out is None:
                self._rows[slot] = row
            elif row is not out:  # the slot would still hold whatever was in memory before
                raise TypeError(f"{type(decoder).__name__}.decode must fill and return `out` when it is given")
        except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a decoder raises is this sample's error
            complete = self.fail(slot, DecodeError, cause)
            del self, data, out  # see `fail`
            return complete
        return self._settle(1)

    def fill(self, take: Callable[[Indices], Array]) -> bool:
        """Fill every slot with rows that are in memory, through the decoder if there is one."""
        rows = self._take(take, self.planned.indices, 0)
        if rows is None:
            return self._settle(self._missing)
        if self._decoder is not None:
            complete = False
            for slot in range(len(rows)):
                complete |= self.decode(slot, rows[slot])
            del self, rows  # see `fail`
            return complete
        self._images = rows
        return self._settle(len(rows))

    def restore(self, slots: Indices, kept: KeptRows) -> bool:
        """Fill some slots with rows that were kept, one at least."""
        indices, complete = self.planned.indices[slots], False
        if not kept.is_ready:
            for slot, index in zip(slots.tolist(), indices.tolist(), strict=True):
                complete |= self.decode(slot, kept.row(index))
            del self  # see `fail`
            return complete
        images = self._array()
        if len(slots) == len(images):
            kept.take(indices, images)
        else:
            for slot, index in zip(slots.tolist(), indices.tolist(), strict=True):
                images[slot] = kept.row(index)
        return self._settle(len(slots))

    def _array(self) -> Array:
        """Return the batch's memory, which is taken for its first row.

        Batches wait open for their turn, and by then one that has left may have left its memory behind, which is still
        in the processor's cache: with four batches of 5 MB open that is 3 % of the time that photographs take.
        """
        if self._images is None:
            with self._lock:
                if self._images is None:
                    assert self._decoder is not None and self._decoder.row_shape is not None  # noqa: S101, PT018
                    assert self._decoder.row_dtype is not None  # noqa: S101 - or rows are kept one by one
                    shape = (len(self.planned.samples), *self._decoder.row_shape)
                    self._images = self._memory.empty(shape, self._decoder.row_dtype)
        return self._images

    def fill_stand_in(self, slot: int, take: Callable[[Indices], Array]) -> bool:
        """Fill one slot with its stand-in's row, which is in memory."""
        rows = self._take(take, np.array([self.seating.occupant(slot)[0]], np.int64), slot)
        complete = self._settle(1) if rows is None else self.decode(slot, rows[0])
        del self, rows  # see `fail`
        return complete

    def _take(self, take: Callable[[Indices], Array], indices: Indices, slot: int) -> Array | None:
        try:
            rows = np.asarray(take(indices))
            if len(rows) != len(indices):
                raise ValueError(f"it gave {len(rows)} rows for {len(indices)} indices")
        except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a source raises is the batch's error
            error = SourceError(f"{getattr(take, '__qualname__', 'take')} failed: {describe(cause)}")
            error.__cause__ = _without_our_frame(cause)
            self.seating.errors[slot] = error
            del self  # see `fail`
            return None
        return rows

    def fail(self, slot: int, kind: type[SampleError], cause: BaseException) -> bool:
        """Record why a sample did not become a row.

        Whoever keeps the error keeps the frames of its traceback, and with each frame those that called it, with the
        variables that they had in the end. So whoever calls what may fail lets go of the batch before it returns.
        """
        cause = _without_our_frame(cause)
        error = self.seating.error_of(slot, kind, cause)
        if self._on_failure == "raise" or not isinstance(error, SampleError):
            self.seating.errors[slot] = error
            return self._settle(1)
        self.seating.vacate(slot, error)
        if self._on_failure == "skip":
            return self._settle(1)
        self._on_failure(self, slot)
        return False

    def spent(self, fetching: float, decoding: float) -> None:
        """Hear how many seconds a thread spent on getting some of its samples, and on making rows of them."""
        with self._lock:
            self._spent = self._spent[0] + fetching, self._spent[1] + decoding
            self.reading = self._spent[0] / max(sum(self._spent), 1e-9)

    def _settle(self, slots: int) -> bool:
        with self._lock:
            self._missing -= slots
            return self._missing == 0

    def seal(self) -> None:
        """Do the part of completing a batch that is too slow for the event loop."""
        self._bring_together()
        self.complete_at = perf_counter()

    def _bring_together(self) -> None:
        kept = self.seating.kept()
        if self.seating.errors or not kept:
            return
        try:
            self._labels = self._labels_of(kept)
        except SourceError as error:
            self.seating.errors[len(self.planned.samples)] = error  # after whatever the slots have to say
            return
        if self._images is None:
            rows = [self._rows[slot] for slot in kept]
            if len({(row.shape, row.dtype) for row in rows}) == 1:
                self._images = self._memory.empty((len(rows), *rows[0].shape), rows[0].dtype)
                np.stack(rows, out=self._images)
        elif len(kept) < len(self._images):
            for place, slot in enumerate(kept):
                if place != slot:  # and so before it: what is overwritten has moved already
                    self._images[place] = self._images[slot]
            self._images = self._images[: len(kept)]

    def _labels_of(self, kept: list[int]) -> Array | None:
        if self.seating.labels:
            return stack_fetched([self.seating.labels[slot] for slot in kept])
        if self.seating.replaced:
            return stack_labels_with(self.planned, [self.seating.occupant(slot)[1] for slot in kept])
        labels = self.planned.labels
        return labels if labels is None or self.seating.as_planned else labels[kept]

    def made(self, steps: int) -> MadeBatch:
        """Return the batch, once all slots have settled and it was sealed or need not be.

        Args:
            steps: Batches an epoch.
        """
        planned, seating = self.planned, self.seating
        kept = [] if seating.errors else seating.kept()
        indices, samples = planned.indices, planned.samples
        if not kept or not seating.as_planned:
            occupants = [seating.occupant(slot) for slot in kept]
            indices, samples = np.array([index for index, _ in occupants], np.int64), [one for _, one in occupants]
        rows: Array | list[Array] = [self._rows[slot] for slot in kept] if self._images is None else self._images
        return MadeBatch(
            number=planned.epoch * steps + planned.step,
            epoch=planned.epoch,
            step=planned.step,
            rows=rows if kept else (),
            labels=self._labels,
            indices=indices,
            keys=[sample.key for sample in samples],
            failures=seating.failures,
            replaced=seating.replaced,
            error=seating.errors[min(seating.errors)] if seating.errors else None,
            times=Times(self.read_at, self.complete_at, self.reading),
        )


def _without_our_frame(cause: BaseException) -> BaseException:
    """Leave out of a traceback the frame that caught it, which tells nothing."""
    return cause.with_traceback(cause.__traceback__ and cause.__traceback__.tb_next)


_NO_ROW: Array = np.empty(0)
