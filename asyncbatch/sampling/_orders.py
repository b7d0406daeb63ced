"""What an order of samples is, and the two that need no explaining.

Nothing here keeps a position. Whoever asks for the indices at some positions of some epoch gets the same answer
whenever they ask, so concurrency, timing and restarts cannot change what a batch holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from asyncbatch._types import Indices, Source
from asyncbatch.sampling._permutation import Permutation

__all__ = ["Order", "Sampler", "Sequential", "Shuffle", "epoch_seeds"]

# Positions that are computed together: a call of NumPy costs hardly more for a thousand than for the ten of a batch.
_RUN = 1024


class Order(Protocol):
    """The order of a source's samples, epoch by epoch."""

    @property
    def fingerprint(self) -> str:
        """A short text that changes when the order does, for the same source and seed."""
        ...

    def __len__(self) -> int:
        """How many samples an epoch has."""
        ...

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        """Return the indices at positions `start` to `stop` of the epoch, (stop - start,) int64."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """How samples are to be drawn, before it is known of which source."""

    def order(self, source: Source, seed: int) -> Order:
        """Return the order of a source's samples.

        Args:
            source: What there is; it has at least one sample.
            seed: The loader's.
        """
        ...


def epoch_seeds(seed: int, *key: int) -> np.random.SeedSequence:
    """Return what everything random of an epoch's order is drawn from.

    The epoch and what else there is are a spawn key: as further words of entropy they would meet the seeds of the
    samples' transforms.
    """
    return np.random.SeedSequence(seed, spawn_key=key)


@dataclass(frozen=True)
class Sequential:
    """Every sample once, in the source's order."""

    def order(self, source: Source, seed: int) -> Order:
        return _Sequential(len(source))


@dataclass(frozen=True)
class _Sequential:
    size: int
    fingerprint: str = "Sequential()"

    def __len__(self) -> int:
        return self.size

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        return np.arange(start, stop, dtype=np.int64)


@dataclass(frozen=True)
class Shuffle:
    """Every sample once, in an order drawn anew for each epoch. Neither memory nor start-up grow with the source."""

    def order(self, source: Source, seed: int) -> Order:
        return _Shuffled(len(source), seed)


class _Shuffled:
    fingerprint = "Shuffle()"

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        # The epoch that the next batch is most likely of, its order, and the runs of indices that were asked for last.
        self._latest: tuple[int, Permutation, dict[int, Indices]] | None = None

    def __len__(self) -> int:
        return self._size

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        latest = self._latest  # another thread, of an iteration that ends, may ask for another epoch
        if latest is None or latest[0] != epoch:
            latest = self._latest = epoch, Permutation(self._size, epoch_seeds(self._seed, epoch)), {}
        _, order, runs = latest
        first = start // _RUN * _RUN
        pieces = [np.empty(0, np.int64)]
        for at in range(first, stop, _RUN):
            run = runs.get(at)
            if run is None:
                run = order[np.arange(at, min(at + _RUN, self._size), dtype=np.int64)]
                if len(runs) > 1:
                    runs.clear()  # a batch lies in two at most, as a rule
                runs[at] = run
            pieces.append(run)
        return np.concatenate(pieces)[start - first : stop - first]
