"""Samples drawn with replacement: each position of an epoch is a draw of its own, by position alone.

The n-th draw is the n-th number of a SplitMix64 generator (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
Generators", OOPSLA 2014), whose state is a counter, so that any of them can be had at once. Its upper 53 bits are a
number from 0 to 1; no index is more likely than another by more than a few parts in 2⁵³ of the source's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asyncbatch._arguments import require_whole
from asyncbatch._errors import ConfigError
from asyncbatch._types import Array, Indices, Source
from asyncbatch.sampling._orders import Order, epoch_seeds

__all__ = ["ClassBalanced", "Weighted", "WithReplacement"]


@dataclass(frozen=True)
class _Draws:
    samples: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", _checked_samples(self.samples))


@dataclass(frozen=True)
class WithReplacement(_Draws):
    """Each position holds any sample, each as likely as the others: `numpy.random.randint` for ever.

    Args:
        samples: How many make an epoch. Default None: as many as the source has.
    """

    def order(self, source: Source, seed: int) -> Order:
        return _Drawn(seed, self.samples, len(source), None, repr(self))


@dataclass(frozen=True, eq=False)
class Weighted:
    """Each position holds any sample, as likely as its weight says.

    Args:
        weights: One for each sample of the source, (N,), 0 or more, finite and not all 0. Their sum does not matter.
        samples: How many make an epoch. Default None: as many as the source has.

    Raises:
        ConfigError: An argument cannot be used.
    """

    weights: Sequence[float] | Array = field(repr=False)
    samples: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", _checked_samples(self.samples))
        object.__setattr__(self, "weights", _checked_weights(self.weights))

    def order(self, source: Source, seed: int) -> Order:
        weights = np.asarray(self.weights)
        if len(weights) != len(source):
            raise ConfigError(
                f"weights must be one for each sample, and there are {len(weights):,} for the source's {len(source):,}"
            )
        digest = hashlib.blake2b(weights.tobytes(), digest_size=8).hexdigest()
        return _Drawn(seed, self.samples, len(source), weights, f"{self!r} {digest}")


@dataclass(frozen=True)
class ClassBalanced(_Draws):
    """Each position holds any class, each as likely as the others, and of it any sample.

    The source has to say its labels: `labels`, (N,) integers, as those of `sources.folder`, `.manifest` and `.arrays`.

    Args:
        samples: How many make an epoch. Default None: as many as the source has.
    """

    def order(self, source: Source, seed: int) -> Order:
        labels = np.asarray(getattr(source, "labels", None))
        if labels.shape != (len(source),) or labels.dtype.kind not in "iub":
            raise ConfigError(
                f"ClassBalanced is for sources whose labels are one class each, {source!r} has none of these; "
                "write sampler=Weighted(weights) with a weight for each sample"
            )
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return _Drawn(seed, self.samples, len(source), 1.0 / counts[classes], repr(self))


class _Drawn:
    def __init__(self, seed: int, samples: int | None, size: int, weights: Array | None, fingerprint: str) -> None:
        self._seed = seed
        self._samples = samples or size
        self._size = size
        self._edges: NDArray[np.float64] | None = None  # where each sample's share of 0 to 1 ends
        if weights is not None:
            self._edges = np.cumsum(weights / weights.max(), dtype=np.float64)  # their sum might not be finite
            self._edges /= self._edges[-1]
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return self._samples

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        draws = _uniform(epoch_seeds(self._seed, epoch), start, stop)
        if self._edges is None:
            return (draws * self._size).astype(np.int64)
        return np.searchsorted(self._edges, draws, side="right").astype(np.int64)


def _uniform(seeds: np.random.SeedSequence, start: int, stop: int) -> NDArray[np.float64]:
    """Return numbers from 0 to below 1, those from `start` to `stop` of an endless series."""
    (first,) = seeds.generate_state(1, np.uint64)
    words = (np.arange(start, stop, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + first
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    numbers: NDArray[np.float64] = (words >> np.uint64(11)) * 2.0**-53
    return numbers


def _checked_samples(samples: int | None) -> int | None:
    return None if samples is None else require_whole("samples", samples, least=1, example=10_000)


def _checked_weights(weights: object) -> NDArray[np.float64]:
    try:
        array = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 1 or not len(array) or not (np.isfinite(array) & (array >= 0)).all() or not array.any():
        raise ConfigError(
            f"weights must be numbers of 0 or more, one for each sample and not all 0, got {weights!r:.80}; "
            "write Weighted([1.0, 0.5, …])"
        )
    array.setflags(write=False)
    return array
