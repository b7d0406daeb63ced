"""Checks of arguments that several stages take, with the words to say when they fail."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import cast

import numpy as np

from asyncbatch._errors import ConfigError

__all__ = ["Size", "check_choice", "require_flag", "require_seconds", "require_whole", "size_in_bytes"]

Size = int | str
"""A number of bytes, or a text such as "256MB" (10⁶ bytes each) or "256MiB" (2²⁰)."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def size_in_bytes(size: Size, name: str) -> int:
    """Return `size` in bytes.

    Raises:
        ConfigError: It is not a size above 0; `name` is the argument that the message speaks of.
    """
    if isinstance(size, str) and size.strip().isdecimal() and int(size):  # of megabytes, as a rule
        raise ConfigError(f'{name}={size!r} has no unit; write {name}="{size.strip()}MB", or a number for bytes')
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?|)B?", str(size).strip().upper())
    number = int(float(match[1]) * _UNITS[match[2]]) if match and not isinstance(size, bool) else 0
    if number < 1:
        raise ConfigError(f'{name} must be a size above 0, got {size!r}; write {name}="256MB", or a number of bytes')
    return number


def require_whole(name: str, value: object, *, least: int, example: int) -> int:
    """Return a whole number of Python or NumPy as Python's own, which JSON can hold, if it is at least `least`.

    Raises:
        ConfigError: It is not; the message proposes `example`.
    """
    try:
        number = operator.index(cast("int", value))
    except (TypeError, ValueError):
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}; write {name}={example}")
    return number


def require_flag(name: str, value: object, *, default: bool) -> bool:
    """Return `value` if it is True or False, of Python or NumPy: "no" and "False" are true to Python.

    Raises:
        ConfigError: It is neither; the message proposes the opposite of the default, as that is what was to be said.
    """
    if not isinstance(value, bool | np.bool_):
        raise ConfigError(f"{name} must be True or False, got {value!r}; write {name}={not default}")
    return bool(value)


def require_seconds(name: str, value: object, *, example: float) -> None:
    """Refuse what is no time span.

    Raises:
        ConfigError: It is not a finite number above 0; the message proposes `example`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a number of seconds above 0, got {value!r}; write {name}={example}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse what is not one of `choices`, of which the message proposes the one that is most like it.

    Raises:
        ConfigError: It is not; `name` is the argument that the message speaks of.
    """
    choices = tuple(choices)
    if value not in choices:
        (likely,) = get_close_matches(str(value).lower(), choices, 1, cutoff=0.0)
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}; write {name}={likely!r}")
