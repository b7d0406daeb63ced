"""What a cache holds, in numbers."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Contents"]


class Contents(NamedTuple):
    """What a cache holds.

    Attributes:
        entries: How many samples.
        size: Their bytes.
        corrupt: The files of those that are not what they were when they came, where that was looked for.
    """

    entries: int
    size: int
    corrupt: tuple[str, ...] = ()
