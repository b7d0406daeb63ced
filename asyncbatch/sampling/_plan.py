"""The order of the samples, cut into batches and shared out among ranks.

A step's batches of all ranks together are the global batch, `world` times `batch_size` samples that follow one another
in the order; each rank takes its piece of it. So what the global batches hold depends on their size alone: 8 ranks with
batches of 16 see in each step what 2 ranks with batches of 64 see.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch._types import Indices
from asyncbatch.sampling._orders import Order

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Cuts an order into batches.

    An epoch's last global batch may be shorter than the others. `drop_last` leaves it out. Otherwise every rank gets as
    many samples of it as the others: where it cannot be divided, the first samples of the epoch fill it up, at most one
    for each rank but one.

    Attributes:
        order: The order of the samples.
        batch_size: Samples a batch, of one rank.
        drop_last: Leave out a last batch that would be shorter than the others.
        rank: Which of the ranks this is, from 0.
        world: How many there are.
        steps: Batches an epoch, the same on every rank.

    Raises:
        SourceError: There are no samples.
        ConfigError: `drop_last` would leave no batch at all.
    """

    order: Order
    batch_size: int
    drop_last: bool
    rank: int = 0
    world: int = 1
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.order)
        if size == 0:
            raise SourceError("the sampler is empty: an epoch has no samples to make batches of")
        if self.drop_last and size < self.global_batch:
            ranks = f" on each of {self.world} ranks" if self.world > 1 else ""
            most = size // self.world
            remedy = f", or batch_size={most} or less" if most else ""
            raise ConfigError(
                f"drop_last=True leaves no batch: an epoch has {size} samples, batch_size is {self.batch_size}{ranks}; "
                f"write drop_last=False{remedy}"
            )
        steps = size // self.global_batch if self.drop_last else -(-size // self.global_batch)
        object.__setattr__(self, "steps", steps)

    @property
    def global_batch(self) -> int:
        """Samples a step, of all ranks together."""
        return self.batch_size * self.world

    @property
    def samples(self) -> int:
        """Samples an epoch, of one rank."""
        last = min(len(self.order), self.steps * self.global_batch) - (self.steps - 1) * self.global_batch
        return (self.steps - 1) * self.batch_size + -(-last // self.world)

    def indices(self, epoch: int, step: int) -> Indices:
        """Return the indices of the samples of batch `step` of epoch `epoch`, (B,) int64, a new array."""
        size, begin = len(self.order), step * self.global_batch
        each = -(-min(self.global_batch, size - begin) // self.world)
        start = begin + self.rank * each
        stop = start + each
        pieces = [self.order.indices(epoch, min(start, size), min(stop, size))]
        while stop > size:  # round to the epoch's first samples
            start, stop = max(0, start - size), stop - size
            pieces.append(self.order.indices(epoch, min(start, size), min(stop, size)))
        return np.concatenate(pieces)
