"""Work done for a planned batch, told to the hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from asyncbatch._planning import PlannedBatch
from asyncbatch._types import Hook, Span

__all__ = ["record"]


def record(
    hooks: Sequence[Hook], stage: Literal["read", "decode"], start: float, stop: float, planned: PlannedBatch, lane: int
) -> None:
    """Tell every hook of one piece of work."""
    if hooks:
        span = Span(stage, start, stop, planned.epoch, planned.step, lane)
        for hook in hooks:
            hook.record(span)
