"""Pieces of work, told to the hooks."""

from __future__ import annotations

from collections.abc import Sequence

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


def record(hooks: Sequence[Hook], span: Span) -> None:
    """Tell every hook of one piece of work; without hooks there is no need to make a span."""
    for hook in hooks:
        hook.record(span)
