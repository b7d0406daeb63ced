"""One hop to a thread: the reads that it is for, and who waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import islice
from time import monotonic, perf_counter
from typing import NamedTuple, Protocol

from asyncbatch.readers._together import neighbours, read_together
from asyncbatch.readers._whole import Hop, Outcome, Readable, Room

__all__ = ["Answer", "Ask", "Flight", "resolve"]

_ALONE = ((0, 1),)  # the neighbours of the only one: on a mount every flight is of one file


class Answer(Protocol):
    """Who is told what a read gave, at most once: a future, or something lighter."""

    def done(self) -> bool:
        """Whether nobody waits any more, since it was told or given up."""

    def set_result(self, outcome: Outcome, /) -> None:
        """Hear what was read."""

    def set_exception(self, error: BaseException, /) -> None:
        """Hear why it could not be read."""


class Ask(NamedTuple):
    """A read that is asked for.

    Attributes:
        part: What to read.
        answer: Is told what it gave.
        room: Where to put it; None for anywhere.
        slow: Is told if it takes long once it has begun.
    """

    part: Readable
    answer: Answer
    room: Room | None = None
    slow: asyncio.Future[None] | None = None


class Flight(Hop):
    """A hop under way, and who waits for it.

    Attributes:
        in_stint: Whether its thread goes on to the next hop by itself.
        alarm: Goes off when it is slow.
    """

    __slots__ = ("alarm", "asks", "generation", "in_stint")

    def __init__(
        self, asks: list[Ask], generation: int, max_size: int, devices: dict[int, str], in_stint: bool
    ) -> None:
        super().__init__([ask.part for ask in asks], [ask.room for ask in asks], max_size, devices)
        self.asks = asks
        self.generation = generation
        self.in_stint = in_stint
        self.alarm: asyncio.TimerHandle | None = None

    def read(self) -> None:
        """Read every part, those that lie side by side at once; an error is that part's, and the others are read."""
        self.thread = threading.current_thread()
        self.began = self.moved = monotonic()
        for start, stop in neighbours(self.parts) if len(self.parts) > 1 else _ALONE:
            began = perf_counter()
            results = read_together(self.parts[start:stop], self.rooms[start:stop], self)
            if self.given_up:  # and whoever holds the hop need not hold the bytes
                return
            self.results += results
            self.times += [perf_counter() - began] * len(results)
            self.moved = monotonic()

    def is_slow(self) -> None:
        """Tell whoever wants to hear of it."""
        for ask in self.asks:
            if ask.slow is not None and not ask.slow.done() and not ask.answer.done():
                ask.slow.set_result(None)


def resolve(asks: Sequence[Ask], results: Sequence[Outcome | BaseException]) -> None:
    """Answer as many of some reads as there are results for, but those that nobody waits for any more."""
    for ask, result in zip(islice(asks, len(results)), results, strict=True):
        if ask.answer.done():  # cancelled, or answered otherwise
            continue
        if isinstance(result, BaseException):
            ask.answer.set_exception(result)
        else:
            ask.answer.set_result(result)
