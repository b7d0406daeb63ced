"""Which samples, in which order: pure functions of (seed, epoch, step).

Nothing here keeps a position. The pipeline asks for the indices of any batch of any epoch and gets the same answer
whenever it asks, so concurrency, timing and restarts cannot change what a batch holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch._types import Indices

__all__ = ["Plan", "Sampler", "Sequential", "Shuffle"]


class Sampler(Protocol):
    """The order of an epoch's samples."""

    def __len__(self) -> int:
        """How many samples an epoch has."""
        ...

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        """Return the indices at positions `start` to `stop` of the epoch, (stop - start,) int64."""
        ...


@dataclass(frozen=True, slots=True)
class Sequential:
    """Every sample once, in the source's order."""

    size: int

    def __len__(self) -> int:
        return self.size

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        return np.arange(start, stop, dtype=np.int64)


class Shuffle:
    """Every sample once, in an order drawn anew for each epoch from (seed, epoch).

    Args:
        size: How many samples there are.
        seed: The loader's seed.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._drawn: tuple[int, Indices] | None = None  # the last epoch's, which the next batch is most likely of

    def __len__(self) -> int:
        return self._size

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        if self._drawn is None or self._drawn[0] != epoch:
            # The epoch as a spawn key: as a second word of entropy it would meet the seeds of the samples' transforms.
            seed = np.random.SeedSequence(self._seed, spawn_key=(epoch,))
            self._drawn = epoch, np.random.default_rng(seed).permutation(self._size)
        return self._drawn[1][start:stop]


@dataclass(frozen=True, slots=True)
class Plan:
    """Cuts the order of a sampler into batches.

    Attributes:
        sampler: The order of the samples.
        batch_size: Samples a batch.
        drop_last: Leave out a last batch that would be shorter than the others.
        steps: Batches an epoch.

    Raises:
        SourceError: There are no samples.
        ConfigError: `drop_last` would leave no batch at all.
    """

    sampler: Sampler
    batch_size: int
    drop_last: bool
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.sampler)
        if size == 0:
            raise SourceError("the source is empty: it has no samples to make batches of")
        if self.drop_last and size < self.batch_size:
            raise ConfigError(
                f"drop_last=True leaves no batch: the source has {size} samples, batch_size is {self.batch_size}; "
                f"write drop_last=False, or batch_size={size} or less"
            )
        steps = size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        object.__setattr__(self, "steps", steps)

    def indices(self, epoch: int, step: int) -> Indices:
        """Return the indices of the samples of batch `step` of epoch `epoch`, (B,) int64, a new array."""
        start = step * self.batch_size
        stop = min(start + self.batch_size, len(self.sampler))
        return self.sampler.indices(epoch, start, stop).copy()
