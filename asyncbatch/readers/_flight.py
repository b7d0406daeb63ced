"""One hop to a thread: the reads that it is for, and who waits for them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from asyncbatch.readers._whole import Content, Hop, Part

__all__ = ["Answer", "Ask", "Flight"]


class Answer(Protocol):
    """Who is told what a read gave, at most once: a future, or something lighter."""

    def done(self) -> bool:
        """Whether nobody waits any more, since it was told or given up."""

    def set_result(self, content: Content, /) -> None:
        """Hear what was read."""

    def set_exception(self, error: BaseException, /) -> None:
        """Hear why it could not be read."""


Ask = tuple[Part, Answer, "asyncio.Future[None] | None"]
"""A read, who is told what it gave, and who is told that it is slow."""


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
        super().__init__([part for part, _, _ in asks], max_size, devices)
        self.asks = asks
        self.generation = generation
        self.in_stint = in_stint
        self.alarm: asyncio.TimerHandle | None = None

    def is_slow(self) -> None:
        """Tell whoever wants to hear of it."""
        for _, answer, slow in self.asks:
            if slow is not None and not slow.done() and not answer.done():
                slow.set_result(None)
