"""Which samples, in which order: pure functions of (seed, epoch, position)."""

from asyncbatch.sampling._blocks import BlockShuffle
from asyncbatch.sampling._choose import SamplerLike, as_sampler, order_of
from asyncbatch.sampling._draws import ClassBalanced, Weighted, WithReplacement
from asyncbatch.sampling._orders import Order, Sampler, Sequential, Shuffle
from asyncbatch.sampling._plan import Plan

__all__ = [
    "BlockShuffle",
    "ClassBalanced",
    "Order",
    "Plan",
    "Sampler",
    "SamplerLike",
    "Sequential",
    "Shuffle",
    "Weighted",
    "WithReplacement",
    "as_sampler",
    "order_of",
]
