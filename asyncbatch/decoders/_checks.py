"""Checks of the arguments that the decoder and the transforms share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError

__all__ = ["Size", "as_size", "is_whole"]

Size = int | Sequence[int]
"""(height, width) in pixels, or one number."""


def is_whole(value: object) -> bool:
    """Say whether it is a whole number above 0, of Python or NumPy."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value > 0)


def as_size(size: Any, name: str) -> tuple[int, int]:
    """Return (height, width); one number stands for both.

    Raises:
        ConfigError: It is not one or two whole numbers above 0; `name` is the argument that the message speaks of.
    """
    sides = size if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or not all(is_whole(side) for side in sides):
        raise ConfigError(
            f"{name} must be (height, width) in pixels, or one number, got {size!r}; write {name}=(224, 224)"
        )
    return int(sides[0]), int(sides[1])
