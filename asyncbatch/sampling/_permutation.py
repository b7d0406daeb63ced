"""A random order of n things that is computed, not stored: position → thing, for any position at once.

It is a Feistel network on pairs (left, right) with left < a and right < b, where a·b is n or a little more: each round
adds a random function of one half to the other, which can be undone, so that the whole is one-to-one whatever the
functions are (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, §5: their generalized Feistel).
What falls outside of n is put through again until it falls inside, which is one-to-one as well, and happens to less
than one in √n.

Small orders are drawn by NumPy and kept: every permutation is as likely then, which no network of so few rounds could
promise where the halves are tiny.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asyncbatch._types import Indices

__all__ = ["Permutation"]

# Up to here an order is drawn whole, in a millisecond and half a megabyte.
_SMALL = 2**16

# Six rounds are Luby and Rackoff's four, against an adversary, and two more; the tests' statistics see no difference
# between five and random orders, and one at three.
_ROUNDS = 6

_Words = NDArray[np.uint64]


class Permutation:
    """A random order of 0 to `size` - 1.

    Args:
        size: How many there are, 1 or more.
        seeds: What the order is drawn from.
    """

    def __init__(self, size: int, seeds: np.random.SeedSequence) -> None:
        self._size = size
        self._drawn: Indices | None = None
        if size <= _SMALL:
            self._drawn = np.random.default_rng(seeds).permutation(size)
            return
        self._a = math.isqrt(size - 1) + 1
        self._b = -(-size // self._a)
        self._keys = seeds.generate_state(2 * _ROUNDS, np.uint64).reshape(_ROUNDS, 2) | np.uint64(1)

    def __getitem__(self, positions: Indices) -> Indices:
        """Return what is at `positions`, int64 of any shape, each from 0 to `size` - 1."""
        if self._drawn is not None:
            return self._drawn[positions]
        found = self._once(positions)
        while (outside := found >= self._size).any():
            found[outside] = self._once(found[outside])
        return found

    def _once(self, positions: Indices) -> Indices:
        left, right = np.divmod(positions.astype(np.uint64), np.uint64(self._b))
        sizes = np.uint64(self._a), np.uint64(self._b)
        for factor, key in self._keys:
            # The halves change places, and so do their sizes: left is below sizes[0] again after the next round.
            left, right = right, (left + _scattered(right, factor, key, sizes[0])) % sizes[0]
            sizes = sizes[1], sizes[0]
        return (left * sizes[1] + right).astype(np.int64)


def _scattered(values: _Words, factor: np.uint64, key: np.uint64, below: np.uint64) -> _Words:
    """Return random numbers below `below`, itself below 2³², the same for the same values, factor and key."""
    words = values * factor + key
    words ^= words >> np.uint64(32)
    words *= np.uint64(0xD6E8FEB86659FD93)  # Degski's mixer: full avalanche from two multiplications and xor-shifts
    words ^= words >> np.uint64(32)
    return (words >> np.uint64(32)) * below >> np.uint64(32)
