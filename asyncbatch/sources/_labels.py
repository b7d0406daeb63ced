"""Labels as arrays: from words and numbers in a text, and from what a caller has in memory."""

from __future__ import annotations

import contextlib
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch._types import Array
from asyncbatch.sources._lines import shortened

__all__ = ["LineError", "check_class_names", "check_label_dtype", "from_memory", "from_text", "is_number"]

LineError = Callable[[int, str], SourceError]
"""Make the error that says what is wrong with the line of one record."""

BadLabel = Callable[[int, str], SourceError]
"""Make the error that says what is wrong with one label, by its place among all, row by row."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def check_class_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return `names` as a tuple.

    Raises:
        ConfigError: They are not distinct strings.
    """
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigError(
            f"class_names must be a list of strings, got {reprlib.repr(names)}; write class_names=['cat', 'dog']"
        )
    given = tuple(names)
    if not given or len(set(given)) < len(given) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"class_names must be strings and name each class once, got {reprlib.repr(given)}")
    return given


def check_label_dtype(dtype: DTypeLike | None) -> np.dtype[Any] | None:
    """Return `dtype` as NumPy's; `str` asks for class names.

    Raises:
        ConfigError: It is neither an integer, nor a floating type, nor `str`.
    """
    if dtype is None:
        return None
    try:
        checked = np.dtype(dtype)
    except (TypeError, ValueError):
        checked = np.dtype(object)
    if checked.kind not in "iufU":
        raise ConfigError(
            f"label_dtype must be an integer or floating dtype, or str for class names, got {dtype!r}; "
            "write label_dtype='float64'"
        )
    return checked


def from_text(
    columns: Sequence[Sequence[str]], names: tuple[str, ...] | None, dtype: np.dtype[Any] | None, error: LineError
) -> tuple[Array, tuple[str, ...]]:
    """Make label columns into an array.

    Args:
        columns: K columns of N texts, K and N at least 1.
        names: The classes in the order of their indices; None takes the sorted distinct words.
        dtype: As `check_label_dtype` returns it; None chooses by what the texts are.
        error: Makes the error for a record.

    Returns:
        (N,) for one column, (N, K) for more: int64 for integers and classes, float32 where there is a decimal point or
        an exponent. And the class names, empty when the labels are numbers.

    Raises:
        SourceError: A text is missing, is of another kind than the others, or does not fit the dtype.
    """
    for column in columns:
        if "" in column:
            raise error(column.index(""), "its label is missing")
    width = len(columns)
    texts = columns[0] if width == 1 else [text for row in zip(*columns, strict=True) for text in row]

    def bad(position: int, reason: str) -> SourceError:
        return error(position // width, f"label {shortened(texts[position])!r} {reason}")

    as_words = dtype is not None and dtype.kind == "U"
    if (as_words or names) and width > 1:
        raise bad(0, "is one of several in its line, and a class is one; choose it by label_columns=")
    # Names for labels that are indices already, rather than words to look up.
    names_indices = names is not None and not as_words and is_number(texts[0]) and not any(map(is_number, names))
    if as_words or (names and not names_indices):
        return _class_indices(texts, names, bad)
    values = _numbers(texts, dtype)
    if values is None:
        numeric = [is_number(text) for text in texts]
        if width == 1 and dtype is None and not any(numeric):
            return _class_indices(texts, None, bad)
        raise _odd_one_out(numeric, width, dtype, bad)
    array = _fitted(values, np.dtype(np.int64) if names_indices and dtype is None else dtype, bad)
    if names:
        outside = np.flatnonzero((array < 0) | (array >= len(names)))
        if len(outside):
            raise bad(int(outside[0]), f"is not an index of the {len(names)} class_names, 0 to {len(names) - 1}")
    return (array if width == 1 else array.reshape(-1, width)), names or ()


def from_memory(labels: Any, count: int, argument: str) -> tuple[Array, tuple[str, ...]]:
    """Make labels that a caller holds into an array, copied only where its dtype has to change.

    Class indices, which are integers of shape (N,) or (N, 1), become int64, and strings become class indices. Other
    arrays keep their dtype. Sequences have none: their floats become float32, as labels in a text do.

    Returns:
        The array, and the class names, empty when the labels are numbers.

    Raises:
        ConfigError: It is no array of numbers or of strings, or its length is not `count`.
    """
    try:
        array = np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{argument} cannot be made an array: {error}") from error
    if array.ndim == 0 or array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and array.ndim > 1):
        raise ConfigError(
            f"{argument} must hold one label a picture, numbers or class names, got shape {array.shape} of dtype "
            f"{array.dtype}; write {argument}=[0, 1, …] or {argument}=['cat', 'dog', …]"
        )
    if len(array) != count:
        raise ConfigError(f"{argument} has {len(array):,} labels for {count:,} pictures: give one a picture, in order")
    if array.dtype.kind == "U":
        names, indices = np.unique(array, return_inverse=True)
        return indices.astype(np.int64), tuple(names.tolist())
    if array.dtype.kind in "iu" and array.shape in {(count,), (count, 1)}:
        if count and array.max() > np.iinfo(np.int64).max:
            raise ConfigError(f"{argument} holds {array.max()}, which does not fit int64")
        return array.astype(np.int64, copy=False), ()
    if array.dtype.kind == "f" and not hasattr(labels, "dtype"):
        return array.astype(np.float32), ()
    return array, ()


def is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _numbers(texts: Sequence[str], dtype: np.dtype[Any] | None) -> list[int] | list[float] | None:
    """Parse all texts as integers, unless floats are wanted, else all as floats, else return None."""
    together = "".join(texts)
    # Python also reads "1_0" and other scripts' digits as numbers; in a list of labels they are words.
    if not together.isascii() or "_" in together:
        return None
    if dtype is None or dtype.kind != "f":
        with contextlib.suppress(ValueError):
            return list(map(int, texts))
    with contextlib.suppress(ValueError):
        return list(map(float, texts))
    return None


def _fitted(values: list[int] | list[float], dtype: np.dtype[Any] | None, bad: BadLabel) -> Array:
    """Make numbers an array of `dtype`, None being int64 or float32 as they are, or say which does not fit."""
    integers = isinstance(values[0], int)
    if dtype is None:
        dtype = np.dtype(np.int64 if integers else np.float32)
    if dtype.kind in "iu":
        # A float's remainder is 0 for whole numbers, as which pandas writes integers beside missing ones; else it is
        # a fraction or, for infinities and NaN, NaN.
        broken = None if integers else next((i for i, value in enumerate(values) if value % 1 != 0), None)
        if broken is not None:
            raise bad(broken, f"is not an integer, as {dtype} wants")
        bounds = np.iinfo(dtype)
        if min(values) < bounds.min or max(values) > bounds.max:
            outside = next(i for i, value in enumerate(values) if not bounds.min <= value <= bounds.max)
            raise bad(outside, f"does not fit {dtype}, which goes from {bounds.min} to {bounds.max}")
        return np.array(list(map(int, values)), dtype=dtype)
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float64).astype(dtype)
    if np.isfinite(array).all():
        return array
    at = int(np.flatnonzero(~np.isfinite(array))[0])
    if np.isfinite(values[at]):
        raise bad(at, f"is too large for {dtype}; write label_dtype='float64'")
    raise bad(at, "is not a finite number, and a single such target spoils a training; mend or remove the line")


def _class_indices(texts: Sequence[str], names: tuple[str, ...] | None, bad: BadLabel) -> tuple[Array, tuple[str, ...]]:
    names = names or tuple(sorted(set(texts)))
    index = {name: i for i, name in enumerate(names)}
    try:
        return np.fromiter((index[text] for text in texts), dtype=np.int64, count=len(texts)), names
    except KeyError as error:
        shown = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
        raise bad(texts.index(error.args[0]), f"is not one of class_names, {shown}") from None


def _odd_one_out(numeric: list[bool], width: int, dtype: np.dtype[Any] | None, bad: BadLabel) -> SourceError:
    """Say which label keeps the texts from being all numbers, given that some are words."""
    if width > 1 or dtype is not None:
        why = "; words can be a label only alone, as one column: choose it" if width > 1 else ": choose the columns"
        return bad(numeric.index(False), f"is a word among labels that have to be numbers{why} by label_columns=")
    at = numeric.index(not numeric[0])
    kinds = ("a number", "words") if numeric[at] else ("a word", "numbers")
    return bad(at, f"is {kinds[0]} where those before it are {kinds[1]}; if all are class names, write label_dtype=str")
