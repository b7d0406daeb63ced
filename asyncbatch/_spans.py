"""Work done for a planned batch, told to the hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from asyncbatch._planning import PlannedBatch
from asyncbatch._types import Hook, Span

__all__ = ["Lanes", "record"]


class Lanes:
    """Gives each piece of work a lane in which no other was under way meanwhile, as few as there were at once.

    Args:
        first: The first lane's number.
    """

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._free_from: list[float] = []  # by lane: when its latest piece of work ended

    def lane(self, start: float, stop: float) -> int:
        """Return the lane of a piece of work that has ended."""
        # The one that was free for the shortest time: the others are for those that began earlier, and end later.
        free = [(free_from, lane) for lane, free_from in enumerate(self._free_from) if free_from <= start]
        lane = max(free)[1] if free else len(self._free_from)
        self._free_from[lane : lane + 1] = [stop]
        return self._first + lane


def record(
    hooks: Sequence[Hook], stage: Literal["read", "decode"], start: float, stop: float, planned: PlannedBatch, lane: int
) -> None:
    """Tell every hook of one piece of work."""
    if hooks:
        span = Span(stage, start, stop, planned.epoch, planned.step, lane)
        for hook in hooks:
            hook.record(span)
