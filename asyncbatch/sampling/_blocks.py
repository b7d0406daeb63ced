"""A shuffle that keeps reads close together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asyncbatch._arguments import require_whole
from asyncbatch._types import Indices, Source
from asyncbatch.sampling._orders import Order, epoch_seeds
from asyncbatch.sampling._permutation import Permutation

__all__ = ["BlockShuffle"]


@dataclass(frozen=True)
class BlockShuffle:
    """Every sample once, reads kept local: shuffles blocks of neighbours, then the samples of some blocks together.

    For storage where neighbours are cheap and jumps are not, such as a spinning disk, an archive or a shard in a
    bucket: while a window lasts, only its blocks are read. A sample is mixed with the others of a window, with those
    of other blocks in every epoch, and not with all.

    Args:
        block: Neighbouring samples that stay in one window, such as those of one shard.
        window: Blocks that are mixed. 16 of them make a batch of 32 two samples of each; more mix better.

    Raises:
        ConfigError: An argument is no whole number above 0.
    """

    block: int
    window: int = 16

    def __post_init__(self) -> None:
        # Plain integers: their repr is the fingerprint.
        object.__setattr__(self, "block", require_whole("block", self.block, least=1, example=1000))
        object.__setattr__(self, "window", require_whole("window", self.window, least=1, example=16))

    def order(self, source: Source, seed: int) -> Order:
        return _Blocks(len(source), seed, self)


class _Blocks:
    def __init__(self, size: int, seed: int, sampler: BlockShuffle) -> None:
        self._size = size
        self._seed = seed
        self._block = min(sampler.block, size)
        self._window = sampler.window
        self._count = -(-size // self._block)
        self._lack = self._count * self._block - size  # what the last block is short of
        self._latest: tuple[int, Permutation, int] | None = None  # epoch, its order of the others, place of the last
        self._mixed: tuple[int, int, Indices] | None = None  # epoch, window, its samples
        self.fingerprint = repr(sampler)

    def __len__(self) -> int:
        return self._size

    def indices(self, epoch: int, start: int, stop: int) -> Indices:
        others, last = self._order(epoch)
        pieces = [np.empty(0, np.int64)]
        window = start // (self._block * self._window)  # or a later one: the last block may be before it
        while start < stop:
            begin, end = (self._position(n * self._window, last) for n in (window, window + 1))
            if start < end:
                samples = self._samples(epoch, window, others, last)
                pieces.append(samples[start - begin : stop - begin])
                start = min(stop, end)
            window += 1
        return np.concatenate(pieces)

    def _order(self, epoch: int) -> tuple[Permutation, int]:
        """Return the order of the blocks but the last, which may be short, and the place of that among them."""
        latest = self._latest  # another thread, of an iteration that ends, may ask for another epoch
        if latest is None or latest[0] != epoch:
            others = Permutation(max(1, self._count - 1), epoch_seeds(self._seed, epoch))
            dice = np.random.default_rng(epoch_seeds(self._seed, epoch, 0, 0, 0))
            latest = self._latest = epoch, others, int(dice.integers(self._count))
        return latest[1:]

    def _position(self, place: int, last: int) -> int:
        """Return the position of the first sample of the block at a place."""
        return min(self._size, place * self._block - (self._lack if place > last else 0))

    def _samples(self, epoch: int, window: int, others: Permutation, last: int) -> Indices:
        mixed = self._mixed
        if mixed is None or mixed[:2] != (epoch, window):
            places = np.arange(window * self._window, min((window + 1) * self._window, self._count), dtype=np.int64)
            ranks = np.clip(places - (places > last), 0, max(0, self._count - 2))
            blocks = np.where(places == last, self._count - 1, others[ranks])
            samples = (blocks[:, None] * self._block + np.arange(self._block)).ravel()
            samples = samples[samples < self._size]
            np.random.default_rng(epoch_seeds(self._seed, epoch, window)).shuffle(samples)
            mixed = self._mixed = epoch, window, samples
        return mixed[2]
