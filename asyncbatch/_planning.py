"""The plan meets the source: which samples each coming batch holds.

Runs in a thread of its own, a little ahead of reading, because `source[i]` may be a user's code and slow.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asyncbatch._errors import AsyncbatchError, SourceError, describe
from asyncbatch._types import Array, Indices, Sample, Source
from asyncbatch.sampling import Plan

__all__ = ["PlannedBatch", "plan_batches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBatch:
    """What a batch will hold, before anything of it is read.

    Attributes:
        number: Its place in the iteration, counted from 0 over all its epochs.
        epoch: The epoch it belongs to.
        step: Its place in the epoch.
        indices: (B,) int64, its samples' indices in the source.
        samples: Its samples; empty when the source failed to give them.
        labels: Their labels, (B,) or (B, K); None where the source has none.
        error: Why the source failed.
    """

    number: int
    epoch: int
    step: int
    indices: Indices
    samples: Sequence[Sample] = ()
    labels: Array | None = None
    error: AsyncbatchError | None = None


def plan_batches(source: Source, plan: Plan, epochs: Iterable[int]) -> Iterator[PlannedBatch]:
    """Yield every batch of `epochs` in order; a failing source ends it with a batch that holds the error."""
    number = 0
    for epoch in epochs:
        for step in range(plan.steps):
            planned = _plan_batch(source, plan, number, epoch, step)
            yield planned
            if planned.error is not None:
                return
            number += 1


def _plan_batch(source: Source, plan: Plan, number: int, epoch: int, step: int) -> PlannedBatch:
    indices = plan.indices(epoch, step)
    samples = []
    try:
        for index in indices.tolist():
            sample = source[index]
            if not isinstance(sample, Sample):
                raise TypeError(f"it is {type(sample).__name__}, not asyncbatch.Sample; write Sample(key, label, path)")
            samples.append(sample)
        labels = _stack_labels([sample.label for sample in samples])
    except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a source raises is reported in its turn
        where = f"source[{indices[len(samples)]}]" if len(samples) < len(indices) else "the labels of one batch"
        error = SourceError(f"{where} failed: {describe(cause)}")
        error.__cause__ = cause
        return PlannedBatch(number=number, epoch=epoch, step=step, indices=indices, error=error)
    return PlannedBatch(number=number, epoch=epoch, step=step, indices=indices, samples=samples, labels=labels)


def _stack_labels(labels: list[object]) -> Array | None:
    if all(label is None for label in labels):
        return None
    array: Array | None
    try:
        array = np.array(labels)
    except ValueError:  # ragged
        array = None
    words = sum(isinstance(label, str) for label in labels)
    if array is None or array.dtype == object or words not in (0, len(labels)):  # NumPy would make words of numbers
        raise TypeError(
            f"they do not fit into one array ({', '.join(map(repr, labels[:4]))}, …); "
            "give every sample a number, a string, or an array of one shape"
        )
    return array
