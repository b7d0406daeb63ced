"""Checks of arguments that several stages take, with the words to say when they fail."""

from __future__ import annotations

import re

from asyncbatch._errors import ConfigError

__all__ = ["Size", "require_whole", "size_in_bytes"]

Size = int | str
"""A number of bytes, or a text such as "256MB" (10⁶ bytes each) or "256MiB" (2²⁰)."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def size_in_bytes(size: Size, name: str) -> int:
    """Return `size` in bytes.

    Raises:
        ConfigError: It is not a size above 0; `name` is the argument that the message speaks of.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?|)B?", str(size).strip().upper())
    number = int(float(match[1]) * _UNITS[match[2]]) if match and not isinstance(size, bool) else 0
    if number < 1:
        raise ConfigError(f'{name} must be a size above 0, got {size!r}; write {name}="256MB", or a number of bytes')
    return number


def require_whole(name: str, value: object, *, least: int, example: int) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ConfigError: It is not; the message proposes `example`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}; write {name}={example}")
