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
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.under_way = 0

    @property
    def others_wait(self) -> bool:
        return bool(self._urgent or self._waiting)

    async def take(self, *, urgent: bool = False) -> None:
        """Wait for a turn, to be given back.

        Args:
            urgent: Before all others that are not, as its batch may be the next to leave.
        """
        waiting = self._urgent if urgent else self._waiting
        if self.under_way < self._tuner.limit and not (waiting or self._urgent):
            self.under_way += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the turn meanwhile
                self.give_back()
            raise

    def give_back(self) -> None:
        """End a turn."""
        self.under_way -= 1
        while self.others_wait and self.under_way < self._tuner.limit:
            turn = (self._urgent or self._waiting).popleft()
            if not turn.done():  # done: cancelled
                self.under_way += 1
                turn.set_result(None)
