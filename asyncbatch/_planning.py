"""The plan meets the source: which samples each coming batch holds.

Runs in a thread of its own, a little ahead of reading, because `source[i]` may be a user's code and slow.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

import numpy as np

from asyncbatch._errors import AsyncbatchError, SourceError, describe
from asyncbatch._types import Array, Indices, Sample, Source
from asyncbatch.sampling import Plan
from asyncbatch.sources._files import FileSource

__all__ = ["PlannedBatch", "Planning", "StandIn", "plan_stand_in", "stack_fetched", "stack_labels_with"]

_AT_A_TIME = 1e-3  # seconds of planning, some 15 batches of files


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBatch:
    """What a batch will hold, before anything of it is read.

    Attributes:
        place: Its place in the iteration, counted from 0.
        epoch: The epoch it belongs to.
        step: Its place in the epoch.
        indices: (B,) int64, its samples' indices in the source.
        samples: Its samples; empty when the source failed to give them.
        labels: Their labels, (B,) or (B, K); None where the source has none.
        error: Why the source failed.
    """

    place: int
    epoch: int
    step: int
    indices: Indices
    samples: Sequence[Sample] = ()
    labels: Array | None = None
    error: AsyncbatchError | None = None


@dataclass(frozen=True, slots=True)
class StandIn:
    """A sample that takes the place of one that failed.

    Attributes:
        index: Its index in the source.
        sample: What the source says of it.
    """

    index: int
    sample: Sample


class Planning:
    """Plans the batches of an iteration; belongs to one thread.

    Args:
        source: What there is.
        plan: In which order, in which batches.
        to_error: Whether a failing source, of which the batch holds the error, ends it.
    """

    def __init__(self, source: Source, plan: Plan, *, to_error: bool) -> None:
        self._source = source
        self._plan = plan
        self._to_error = to_error
        self._place = 0
        self._is_over = False

    def next(self, numbers: Sequence[int]) -> list[PlannedBatch]:
        """Return batches by their numbers through all epochs; none after the end."""
        planned: list[PlannedBatch] = []
        since = perf_counter()
        for number in () if self._is_over else numbers:
            planned.append(_plan_batch(self._source, self._plan, self._place, *divmod(number, self._plan.steps)))
            self._place += 1
            self._is_over = self._to_error and planned[-1].error is not None
            if self._is_over:
                break
            if perf_counter() - since > _AT_A_TIME:
                sleep(0)  # lets go of the interpreter: others would wait 5 ms for it, several batches' time
                since = perf_counter()
        return planned


def _plan_batch(source: Source, plan: Plan, place: int, epoch: int, step: int) -> PlannedBatch:
    samples: list[Sample] = []
    indices: Indices = np.empty(0, np.int64)
    try:
        indices = plan.indices(epoch, step)
        if isinstance(source, FileSource):
            with suppress(IndexError):  # of a sampler: the one by one below says which
                samples = source.samples(indices)
        for index in indices[len(samples) :].tolist():
            samples.append(_sample_of(source, index))
        labels = _stack_labels([sample.label for sample in samples])
    except (Exception, CancelledError) as cause:  # noqa: BLE001 - whatever a source raises is reported in its turn
        where = _place(indices, len(samples))
        error = _failed(where, cause)
        return PlannedBatch(place=place, epoch=epoch, step=step, indices=indices, error=error)
    return PlannedBatch(place=place, epoch=epoch, step=step, indices=indices, samples=samples, labels=labels)


def _place(indices: Indices, known: int) -> str:
    if not len(indices):
        return "the sampler"
    return f"source[{indices[known]}]" if known < len(indices) else "the labels of one batch"


def plan_stand_in(source: Source, seed: int, planned: PlannedBatch, index: int, tried: Sequence[int]) -> StandIn | None:
    """Draw the sample that takes the place of one that failed, by (seed, epoch, index, how many were tried) alone.

    Args:
        source: What there is.
        seed: The loader's seed.
        planned: The batch it is for. Its other samples are not drawn if there are any more.
        index: The sample that failed.
        tried: The stand-ins for it that failed too.

    Returns:
        None when the source has no sample left to try.

    Raises:
        SourceError: The source failed.
    """
    where = "len(source)"
    try:
        size = len(source)
        for avoided in ({*planned.indices.tolist(), *tried}, {index, *tried}):
            if size > len(avoided):
                # Three words of spawn key meet neither the shuffle's one nor the transforms' seeds, which have none.
                seeds = np.random.SeedSequence(seed, spawn_key=(planned.epoch, index, len(tried)))
                drawn = int(np.random.default_rng(seeds).integers(size - len(avoided)))
                for other in sorted(avoided):
                    drawn += other <= drawn
                where = f"source[{drawn}]"
                return StandIn(drawn, _sample_of(source, drawn))
    except (Exception, CancelledError) as cause:
        raise _failed(where, cause) from cause
    return None


def stack_labels_with(planned: PlannedBatch, samples: Sequence[Sample]) -> Array | None:
    """Return the labels of `samples`, some of them stand-ins, in the dtype of the batch that was planned.

    Raises:
        SourceError: The label of a stand-in does not fit among the others.
    """
    try:
        labels, others = _stack_labels([sample.label for sample in samples]), planned.labels
        if labels is None or others is None:
            if labels is not others:
                raise TypeError("some samples of the source have a label and some have none")
            return None
        if labels.shape != others.shape:
            raise TypeError(f"their shape is {labels.shape} where {others.shape} was planned")
        # Words may be longer than those planned; everything else must fit without loss.
        return labels if labels.dtype.kind == others.dtype.kind == "U" else labels.astype(others.dtype, casting="safe")
    except (Exception, CancelledError) as cause:
        raise _failed("the labels of a batch with stand-ins", cause) from cause


def stack_fetched(labels: Sequence[Any]) -> Array | None:
    """Return labels that came with the pictures of a batch, in its order; None where there are none.

    Raises:
        SourceError: They do not fit into one array.
    """
    try:
        return _stack_labels(list(labels))
    except (Exception, CancelledError) as cause:
        raise _failed("the labels of one batch", cause) from cause


def _sample_of(source: Source, index: int) -> Sample:
    sample = source[index]
    if not isinstance(sample, Sample):
        raise TypeError(f"it is {type(sample).__name__}, not asyncbatch.Sample; write Sample(key, label, path)")
    return sample


def _failed(where: str, cause: BaseException) -> SourceError:
    error = SourceError(f"{where} failed: {describe(cause)}")
    error.__cause__ = cause
    return error


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
