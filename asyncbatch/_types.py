"""The words that the stages share: what a sample and a batch are, and what each stage asks of its neighbour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from asyncbatch._errors import SampleError

__all__ = ["Array", "Batch", "Decoder", "Hook", "Indices", "ItemSource", "KeptRows",
           "MemorySource", "ReadCounters", "Reader", "ReaderFactory", "Sample", "SeedKey", "Source",
           "Span"]  # fmt: skip

Array = NDArray[Any]
Indices = NDArray[np.int64]

SeedKey = tuple[int, int, int]
"""(seed, epoch, index): what every random thing done to a sample is seeded with."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry of a source: where its bytes are and what they are labelled.

    Attributes:
        key: The name that error messages and `batch.keys` use; for files the path as the source found it.
        label: An int, float, string or 1-D array; None where the source has no labels.
        path: The file that holds the bytes; empty for samples in memory.
        offset: Where in the file the sample begins, in bytes.
        length: How many bytes it has; None means to the end of the file.
    """

    key: str
    label: Any = None
    path: str = ""
    offset: int = 0
    length: int | None = None


class Batch(tuple[Array, Array | None]):
    """The pair `(images, labels)`, with what is known about it as attributes.

    Attributes:
        images: (B, H, W, C), or (B, C, H, W) under `layout="nchw"`; for other decoders (B, *row).
        labels: (B,) int64 for classes, (B,) or (B, K) otherwise; None where the source has no labels.
        indices: (B,) int64, each row's index in the source.
        keys: Each row's key in the source.
        epoch: The epoch that the batch belongs to, counted from 0.
        step: Its place in the epoch, counted from 0.
        errors: Samples of this batch that did not become rows; empty unless `on_error` lets some pass.

    `type(batch)([images, labels])` is a plain tuple: that is how trainers rebuild a batch after moving what is in it to
    a device, and they know nothing of what else it has.
    """

    indices: Indices
    keys: tuple[str, ...]
    epoch: int
    step: int
    errors: tuple[SampleError, ...]

    @overload
    def __new__(cls, images: Iterable[Any], /) -> tuple[Any, ...]: ...  # type: ignore[misc] # for others' code
    @overload
    def __new__(
        cls,
        images: Array,
        labels: Array | None,
        *,
        indices: Indices,
        keys: Sequence[str],
        epoch: int,
        step: int,
        errors: Sequence[SampleError] = (),
    ) -> Self: ...
    def __new__(
        cls,
        images: Any,
        labels: Any = ...,
        *,
        indices: Any = None,
        keys: Sequence[str] = (),
        epoch: int = 0,
        step: int = 0,
        errors: Sequence[SampleError] = (),
    ) -> Any:
        if labels is ...:
            return tuple(images)
        self = super().__new__(cls, (images, labels))
        self.indices = indices
        self.keys = tuple(keys)
        self.epoch = epoch
        self.step = step
        self.errors = tuple(errors)
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Let `copy` and a user's own queue between processes rebuild the batch with its attributes."""
        return tuple(self), dict(vars(self))

    @property
    def images(self) -> Array:
        return self[0]

    @property
    def labels(self) -> Array | None:
        return self[1]

    def __repr__(self) -> str:
        images, labels = self
        return (
            f"Batch(epoch={self.epoch}, step={self.step}, images={images.shape} {images.dtype}, "
            f"labels={None if labels is None else f'{labels.shape} {labels.dtype}'})"
        )


class Source(Protocol):
    """What there is: a fixed sequence of samples. `__getitem__` runs in a thread, never on the event loop."""

    @property
    def fingerprint(self) -> str:
        """A short text that changes when the samples or their order do."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@runtime_checkable
class MemorySource(Source, Protocol):
    """A source whose rows are in memory already, so that nothing is read: see `sources.arrays`."""

    def take(self, indices: Indices, /) -> Array:
        """Return a new array of the rows at `indices`, (len(indices), *row)."""
        ...


@runtime_checkable
class ItemSource(Source, Protocol):
    """A source that gets each picture by itself, and its label with it: see `sources.items`.

    `Sample.label` is not asked for. `fetch` is called in the decode threads, several at a time, once for each sample.
    """

    def fetch(self, index: int, /) -> tuple[Any, Any]:
        """Return a sample's picture and its label.

        Returns:
            The picture: an array, a Pillow image or bytes; an array may be the source's own. And the label, a number, a
            text or an array, of one kind and shape for all samples; None where there are none.

        Raises:
            Exception: Anything; the pipeline makes a `ReadError` of it that names the sample.
        """
        ...


@dataclass(slots=True)
class ReadCounters:
    """What a reader did since it was opened, for `Loader.stats`.

    Attributes:
        retries: Reads that were tried again after an error that may pass.
        timeouts: Reads that were given up because they were past their deadline.
        hedges: Reads that were asked of a second replica because the first was slow.
        lost_threads: Threads that are stuck in a read that was given up, now.
        concurrency: How many reads it allows at once, now.
        group: How many samples a thread reads in one go, now.
        cache_hits: Samples that a cache had.
        cache_misses: Samples that it had not.
        cache_bytes: Bytes that came from it.
        cache_corrupt: Its entries that were not what they were when they came, and were fetched again.
    """

    retries: int = 0
    timeouts: int = 0
    hedges: int = 0
    lost_threads: int = 0
    concurrency: int = 0
    group: int = 1
    cache_hits: int = 0
    cache_misses: int = 0
    cache_bytes: int = 0
    cache_corrupt: int = 0


@runtime_checkable
class Reader(Protocol):
    """Sample → bytes. `read` runs on the engine's event loop, up to `concurrency` times at once.

    An exception of `read` becomes the sample's `ReadError`; one that is an `AsyncbatchError` other than a `SampleError`
    speaks of the storage as a whole and ends the iteration. Two attributes are used where they are there: an
    exception's `attempts`, how often the sample was tried, and the reader's `counters`, a `ReadCounters`.
    """

    @property
    def concurrency(self) -> int: ...

    async def read(self, sample: Sample, /) -> bytes: ...


@runtime_checkable
class ReaderFactory(Protocol):
    """A reader that holds resources, such as threads, for as long as one iteration lasts."""

    def open(self) -> AbstractAsyncContextManager[Reader]: ...


@runtime_checkable
class Decoder(Protocol):
    """Bytes → a row of the batch, called from several threads at once.

    A decoder that knows its rows' shape before it sees any writes into the batch itself. A plain
    `callable(bytes) -> ndarray` is a decoder too; the pipeline wraps it.

    Attributes:
        row_shape: The shape of every row, or None when only the data tells.
        row_dtype: The dtype of every row, or None when only the data tells.
    """

    @property
    def row_shape(self) -> tuple[int, ...] | None: ...

    @property
    def row_dtype(self) -> np.dtype[Any] | None: ...

    def decode(self, data: Any, out: Array | None, seed: SeedKey) -> Array:
        """Decode one sample.

        Args:
            data: The sample's bytes; for a `MemorySource` its row, and for an `ItemSource` its picture if that is not
                bytes, an array that may be written to.
            out: The sample's slot in the batch, of `row_shape` and `row_dtype`; None when these are unknown.
            seed: What to seed randomness with.

        Returns:
            `out` when it was given, else a new array that nothing else refers to.

        Raises:
            Exception: Anything; the pipeline makes a `DecodeError` of it that names the sample.
        """
        ...


class KeptRows(Protocol):
    """Rows that were decoded before, by the index of their sample.

    Attributes:
        is_ready: Whether such a row is a row of the batch; else the decoder makes one of it.
    """

    @property
    def is_ready(self) -> bool: ...

    def take(self, indices: Indices, out: Array, /) -> None:
        """Copy rows, one for each of `out`."""

    def row(self, index: int, /) -> Array:
        """Return a row, not to be written to."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work, timed.

    Attributes:
        stage: "read" and "decode" are one sample's; "wait" is the caller waiting for a batch, "compute" the caller
            busy between two batches. Long waits with idle decoding say that storage is the limit.
        start: When it began, in seconds of `time.perf_counter()`.
        stop: When it ended, likewise.
        epoch: The epoch of the batch that it was for.
        step: The step of that batch.
        lane: Which of the stage's parallel places did it, counted from 0: a read slot, a decode thread.
    """

    stage: Literal["read", "decode", "wait", "compute"]
    start: float
    stop: float
    epoch: int
    step: int
    lane: int = 0


class Hook(Protocol):
    """Told about every span, from whichever thread did the work: return at once and do not raise."""

    def record(self, span: Span, /) -> None: ...
