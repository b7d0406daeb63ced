"""Reads that need no thread, as many at once as a tuner lets: the others wait for their turn, in order."""

from __future__ import annotations

import asyncio
from collections import deque

from asyncbatch.readers._tuning import Tuner

__all__ = ["Turns"]


class Turns:
    """Belongs to the event loop.

    Args:
        tuner: Says how many may have a turn.

    Attributes:
        under_way: How many have one.
    """

    def __init__(self, tuner: Tuner) -> None:
        self._tuner = tuner
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.under_way = 0

    @property
    def others_wait(self) -> bool:
        return bool(self._waiting)

    async def take(self, *, first: bool = False) -> None:
        """Wait for a turn, to be given back.

        Args:
            first: Before all others: it has waited once, and its batch may be the next to leave.
        """
        if self.under_way < self._tuner.limit and (first or not self._waiting):
            self.under_way += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the turn meanwhile
                self.give_back()
            raise

    def give_back(self) -> None:
        """End a turn."""
        self.under_way -= 1
        while self._waiting and self.under_way < self._tuner.limit:
            turn = self._waiting.popleft()
            if not turn.done():  # done: cancelled
                self.under_way += 1
                turn.set_result(None)
