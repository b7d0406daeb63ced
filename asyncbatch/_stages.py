"""What the loader hands to the pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asyncbatch._keeping import RowCache
from asyncbatch._types import Array, Decoder, Hook, Indices, Reader, ReaderFactory, Source
from asyncbatch._useful_threads import UsefulThreads
from asyncbatch.on_error import OnError
from asyncbatch.sampling import Plan
from asyncbatch.trace import Trace

__all__ = ["Stages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What a pipeline is made of; the loader has checked every field.

    Attributes:
        source: What there is.
        plan: In which order, in which batches.
        seed: What every random thing done to a sample is seeded with.
        reader: Sample → bytes; None for a source in memory or of items.
        keep: Where rows that were decoded are kept; None for nowhere.
        take: Indices → rows, of a source in memory.
        fetch: Index → picture and label, of a source of items.
        decoder: Bytes → row; None for a source in memory whose rows are taken as they are.
        decode_threads: How many samples are decoded at once.
        useful_threads: How many of them are of use where samples are read and decoded in one go, as far as was found.
        prefetch: How many batches may be open or complete before the caller takes one.
        read_ahead: The budget for bytes that are not decoded yet.
        in_order: Whether batches leave in the order of the plan, or as they complete.
        on_error: What a sample does that cannot be read or decoded.
        hooks: Told about every span.
    """

    source: Source
    plan: Plan
    seed: int
    reader: Reader | ReaderFactory | None
    keep: RowCache | None
    take: Callable[[Indices], Array] | None
    fetch: Callable[[int], tuple[Any, Any]] | None
    decoder: Decoder | None
    decode_threads: int
    useful_threads: UsefulThreads
    prefetch: int
    read_ahead: int
    in_order: bool
    on_error: OnError
    hooks: Sequence[Hook]

    def close(self) -> None:
        """Let go of what outlives an iteration."""
        for hook in list(self.hooks):
            if isinstance(hook, Trace):
                hook.close()
        if self.keep is not None:
            self.keep.close()

    @property
    def batch_bytes(self) -> int | None:
        """What a full batch takes; None where only the data tells."""
        # A user's decoder need not have these.
        shape: Any
        dtype: Any
        shape, dtype = getattr(self.decoder, "row_shape", None), getattr(self.decoder, "row_dtype", None)
        if shape is None or dtype is None:
            return None
        return int(self.plan.batch_size * math.prod(shape) * np.dtype(dtype).itemsize)

    @property
    def batch(self) -> str:
        """What a batch looks like, as far as that is known beforehand."""
        size, decoder = self.plan.batch_size, self.decoder
        if decoder is None or decoder.row_shape is None:
            return str(size)
        return f"{(size, *decoder.row_shape)} {decoder.row_dtype}"
