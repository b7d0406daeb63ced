"""What `Loader(shuffle=..., sampler=...)` stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError, SourceError, describe
from asyncbatch._types import Indices, Source
from asyncbatch.sampling._blocks import BlockShuffle
from asyncbatch.sampling._orders import Order, Sampler, Sequential, Shuffle

__all__ = ["SamplerLike", "as_sampler", "order_of"]

SamplerLike = Sampler | Sequence[int] | Indices | Callable[[int], Any]


def as_sampler(sampler: SamplerLike | None, *, shuffle: bool, block: int | None = None) -> Sampler:
    """Return the sampler that is meant.

    Args:
        sampler: What was given.
        shuffle: Whether the order is to be a new one for each epoch.
        block: How many neighbours of the source are better read together; None where that makes no difference.

    Raises:
        ConfigError: It is none, or `shuffle` was given as well.
    """
    if sampler is None:
        if shuffle:
            return Shuffle() if block is None else BlockShuffle(block)
        return Sequential()
    if shuffle:
        raise ConfigError(f"sampler={sampler!r:.80} says the order, and shuffle=True another; leave shuffle out")
    if isinstance(sampler, type | str) or (
        not isinstance(sampler, Sampler | Sequence | np.ndarray) and not callable(sampler)
    ):
        raise ConfigError(
            "sampler must be a sampler such as ab.sampling.BlockShuffle(1000), a sequence of indices, or a function of "
            f"the epoch that returns one, got {sampler!r:.80}; for a random order write shuffle=True"
        )
    if isinstance(sampler, Sampler):
        return sampler
    return _OfEpoch(sampler) if callable(sampler) else _Given(sampler)


def order_of(source: Source, sampler: Sampler, seed: int) -> Order:
    """Return the order of a source's samples.

    Raises:
        SourceError: There are none.
        ConfigError: The sampler does not fit the source.
    """
    if len(source) == 0:
        raise SourceError("the source is empty: it has no samples to make batches of")
    return sampler.order(source, seed)


class _Given:
    """Indices that a user chose, the same in every epoch."""

    def __init__(self, indices: Sequence[int] | Indices) -> None:
        self._indices = indices

    def order(self, source: Source, seed: int) -> Order:
        return _Fixed(_checked(self._indices, len(source), "sampler"))


class _Fixed:
    def __init__(self, indices: Indices) -> None:
        self._indices = indices
        self.fingerprint = "indices " + hashlib.blake2b(indices.tobytes(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self._indices)

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        return self._indices[start:stop]


class _OfEpoch:
    """Indices that a user's function gives for each epoch."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self._function = function

    def order(self, source: Source, seed: int) -> Order:
        return _Called(self._function, len(source))


class _Called:
    def __init__(self, function: Callable[[int], Any], size: int) -> None:
        self._function = function
        self._size = size
        self._latest = 0, self._call(0)
        self._length = len(self._latest[1])
        self.fingerprint = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function))}"

    def __len__(self) -> int:
        return self._length

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        latest = self._latest  # another thread, of an iteration that ends, may ask for another epoch
        if latest[0] != epoch:
            indices = self._call(epoch)
            if len(indices) != self._length:
                raise ConfigError(
                    f"sampler({epoch}) returned {len(indices):,} indices and sampler(0) {self._length:,}; all epochs "
                    "must have as many, since len(loader) is their number of batches"
                )
            latest = self._latest = epoch, indices
        return latest[1][start:stop]

    def _call(self, epoch: int) -> Indices:
        try:
            indices = self._function(epoch)
        except Exception as error:
            name = getattr(self._function, "__qualname__", repr(self._function))
            raise ConfigError(
                f"the sampler {name} raised {type(error).__name__} for epoch {epoch}: {describe(error)}; a function "
                "is called with the epoch's number and returns the indices of its samples"
            ) from error
        return _checked(indices, self._size, f"sampler({epoch})")


def _checked(indices: Any, size: int, name: str) -> Indices:
    try:
        array = np.array(indices)
    except ValueError:
        array = np.empty(0)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConfigError(
            f"{name} must be a sequence of indices or return one, whole numbers from 0 to {size - 1:,}, got "
            f"{indices!r:.80}"
        )
    array = array.astype(np.int64)
    wrong = np.flatnonzero((array < 0) | (array >= size))
    if len(wrong):
        raise ConfigError(
            f"{name} holds {array[wrong[0]]} at position {wrong[0]:,}; the source has {size:,} samples, "
            f"0 to {size - 1:,}"
        )
    array.setflags(write=False)
    return array
