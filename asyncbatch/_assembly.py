"""One batch while it is being made: slots filled in any order by any thread, then a `Batch`.

A decoder that knows the shape of its rows writes into the batch itself, so there is no stack and no second copy. For
one that does not, rows are kept until all are there, since only then their common shape is known.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from asyncbatch._errors import AsyncbatchError, DecodeError, SampleError, SourceError, describe
from asyncbatch._memory import BatchMemory
from asyncbatch._planning import PlannedBatch
from asyncbatch._types import Array, Batch, Decoder, Indices

__all__ = ["Assembly", "RowKind"]

RowKind = tuple[tuple[int, ...], np.dtype[Any]]
"""The shape and dtype that all rows of an iteration share."""


class Assembly:
    """A batch being made.

    `open`, `hold` and `finish` belong to the event loop; the others may be called from any thread. `decode`, `fill` and
    `fail` return True to the one call that completes the batch, which then owes it a `seal`.

    Args:
        planned: What it will hold.
        decoder: Bytes → row; None for rows that come ready from memory.
        memory: Where the batch's array comes from.
        seed: The loader's seed.
    """

    def __init__(self, planned: PlannedBatch, decoder: Decoder | None, memory: BatchMemory, seed: int) -> None:
        self.planned = planned
        self.is_open = False
        self.decode_seconds = 0.0
        self._decoder = decoder
        self._memory = memory
        self._seed = seed
        self._lock = threading.Lock()
        self._missing = len(planned.samples)  # slots that have neither a row nor an error
        self._errors: dict[int, AsyncbatchError] = {}
        if planned.error is not None:
            self._errors[0] = planned.error
        self._held: list[tuple[int, Any]] = []
        self._images: Array | None = None
        self._rows: list[Array] = []

    @property
    def has_failed(self) -> bool:
        """Whether `finish` will raise."""
        return bool(self._errors)

    def hold(self, slot: int, data: Any) -> None:
        """Keep bytes that came before the batch was opened."""
        self._held.append((slot, data))

    def open(self) -> list[tuple[int, Any]]:
        """Allocate the batch's memory; return the (slot, bytes) that were held for it."""
        self.is_open = True
        size = len(self.planned.samples)
        decoder = self._decoder
        if decoder is not None and decoder.row_shape is not None and decoder.row_dtype is not None:
            self._images = self._memory.empty((size, *decoder.row_shape), decoder.row_dtype)
        else:
            self._rows = [_NO_ROW] * size
        held, self._held = self._held, []
        return held

    def decode(self, slot: int, data: Any) -> bool:
        """Make a row of a sample's bytes, or record why it could not be made."""
        planned, decoder = self.planned, self._decoder
        assert decoder is not None  # noqa: S101 - without one, rows come by `fill`
        start = perf_counter()
        try:
            out = None if self._images is None else self._images[slot]
            row = decoder.decode(data, out, (self._seed, planned.epoch, int(planned.indices[slot])))
            if out is None:
                self._rows[slot] = row
            elif row is not out:  # the slot would still hold whatever was in memory before
                raise TypeError(f"{type(decoder).__name__}.decode must fill and return `out` when it is given")
        except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a decoder raises is this sample's error
            return self.fail(slot, DecodeError, cause)
        return self._settle(1, perf_counter() - start)

    def fill(self, take: Callable[[Indices], Array]) -> bool:
        """Fill every slot with rows that are in memory, through the decoder if there is one."""
        try:
            rows = np.asarray(take(self.planned.indices))
            if len(rows) != self._missing:
                raise ValueError(f"it gave {len(rows)} rows for {self._missing} indices")
        except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a source raises is the batch's error
            error = SourceError(f"{getattr(take, '__qualname__', 'take')} failed: {describe(cause)}")
            error.__cause__ = cause
            self._errors[0] = error
            return self._settle(self._missing)
        if self._decoder is not None:
            return [self.decode(slot, row) for slot, row in enumerate(rows)][-1]
        self._images = rows
        return self._settle(len(rows))

    def fail(self, slot: int, kind: type[SampleError], cause: BaseException) -> bool:
        """Record why a sample did not become a row."""
        error = kind(self.planned.samples[slot].key, int(self.planned.indices[slot]), describe(cause))
        # Without our own frame, which holds the whole batch for as long as somebody keeps the error.
        error.__cause__ = cause.with_traceback(cause.__traceback__ and cause.__traceback__.tb_next)
        self._errors[slot] = error
        return self._settle(1)

    def _settle(self, slots: int, seconds: float = 0.0) -> bool:
        with self._lock:
            self._missing -= slots
            self.decode_seconds += seconds
            return self._missing == 0

    def seal(self) -> None:
        """Do the part of completing a batch that is too slow for the event loop."""
        if self._images is None and not self._errors and len({(row.shape, row.dtype) for row in self._rows}) == 1:
            row = self._rows[0]
            self._images = self._memory.empty((len(self._rows), *row.shape), row.dtype)
            np.stack(self._rows, out=self._images)

    def finish(self, kind: RowKind | None) -> Batch:
        """Return the batch.

        Args:
            kind: The shape and dtype of the rows of earlier batches; None for the first.

        Raises:
            SampleError: A sample did not become a row, or not one like those before it. Of several errors it is always
                that of the first slot, whichever came first in time.
            SourceError: The source failed.
        """
        if self._errors:
            raise self._errors[min(self._errors)]
        rows = self._rows if self._images is None else self._images
        kind = kind or (rows[0].shape, rows[0].dtype)
        for slot in range(len(rows)) if self._images is None else (0,):
            self._check(slot, rows[slot], kind)
        assert self._images is not None  # noqa: S101 - rows that are all alike were stacked by `seal`
        planned = self.planned
        return Batch(
            self._images,
            planned.labels,
            indices=planned.indices,
            keys=[sample.key for sample in planned.samples],
            epoch=planned.epoch,
            step=planned.step,
        )

    def _check(self, slot: int, row: Array, kind: RowKind) -> None:
        if (row.shape, row.dtype) != kind:
            raise DecodeError(
                self.planned.samples[slot].key,
                int(self.planned.indices[slot]),
                f"its row is {row.shape} {row.dtype}, those before it {kind[0]} {kind[1]}; "
                "all rows must be alike: for pictures write image_size=(height, width)",
            )


_NO_ROW: Array = np.empty(0)
