"""Work done for a planned batch, told to the hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from asyncbatch._planning import PlannedBatch
from asyncbatch._types import Hook, Span

__all__ = ["Lanes", "record"]


class Lanes:
    """Gives each piece of work a lane in which no other was under way meanwhile: few lanes, drawn one above another."""

    def __init__(self) -> None:
        self._free_from: list[float] = []  # by lane: when its latest piece of work ended

    def lane(self, start: float, stop: float) -> int:
        """Return the lane of a piece of work that has ended."""
        for lane, free_from in enumerate(self._free_from):
            if free_from <= start:
                self._free_from[lane] = stop
                return lane
        self._free_from.append(stop)
        return len(self._free_from) - 1


def record(
    hooks: Sequence[Hook], stage: Literal["read", "decode"], start: float, stop: float, planned: PlannedBatch, lane: int
) -> None:
    """Tell every hook of one piece of work."""
    if hooks:
        span = Span(stage, start, stop, planned.epoch, planned.step, lane)
        for hook in hooks:
            hook.record(span)
