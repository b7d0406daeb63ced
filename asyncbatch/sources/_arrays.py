"""Pictures in memory already, or in a file that is mapped into it."""

from __future__ import annotations

import operator
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError, SourceError, describe
from asyncbatch._types import Array, Indices, Sample
from asyncbatch.sources._fingerprint import Digest
from asyncbatch.sources._labels import from_memory
from asyncbatch.sources._paths import file_mode, path_text

__all__ = ["ArraySource", "arrays"]

_HASHED_BYTES = 1 << 24  # blake2b takes about 25 ms for them


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ArraySource:
    """Rows of an array, with labels. Made by `sources.arrays`; a `MemorySource`.

    Attributes:
        x: (N, *row), the caller's own array where that was possible.
        labels: (N,) int64 for classes, else (N, ...); None where there are no labels.
        class_names: The name of each class index; empty where labels were not strings.
    """

    x: Array
    labels: Array | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int, /) -> Sample:
        place = range(len(self))[operator.index(index)]
        return Sample(key=str(place), label=None if self.labels is None else self.labels[place])

    def take(self, indices: Indices, /) -> Array:
        """Return a new array of the rows at `indices`, (len(indices), *row)."""
        return np.asarray(self.x.take(indices, axis=0))  # a sixth of the time of x[indices] on small rows

    @cached_property
    def fingerprint(self) -> str:
        """Changes with shapes, dtypes, labels' names and contents, as they are when it is first asked for.

        Up to 16 MiB an array is hashed whole. Of a larger one rows at even distances are, about 16 MiB of them and at
        least the first and the last, so that the cost stays bounded: a change in other rows goes unnoticed.
        """
        digest = Digest()
        digest.array(self.x, limit=_HASHED_BYTES)
        digest.array(self.labels, limit=_HASHED_BYTES)
        digest.texts(self.class_names)
        return digest.text()

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else f"labels {self.labels.shape} {self.labels.dtype}"
        return f"ArraySource(x {self.x.shape} {self.x.dtype}, {labels})"


def arrays(x: Any, y: Any = None) -> ArraySource:
    """Serve pictures, or any rows, that are in memory or in a .npy file. Nothing is decoded.

    Args:
        x: (N, *row) of numbers: an array or whatever `np.asarray` takes, such as a torch tensor on the CPU. An array
            is not copied, and an `np.memmap` stays one: changes that you make to it later show in later batches. Or
            the path of a .npy file, which is mapped: rows are read as they are asked for, in the decode threads.
        y: N labels, or the path of a .npy file that holds them: class indices, (N,) or (N, 1) of any integer dtype,
            become int64, and strings become class indices, in the order of the sorted names; other arrays keep their
            dtype. Sequences have no dtype to keep: their floats become float32. Default: no labels.

    Raises:
        ConfigError: The lengths differ, there are no rows, or one of them is no array of numbers.
        SourceError: A .npy file is missing, or is none.
    """
    x, y = _opened(x, "x"), _opened(y, "y")
    try:
        rows = x if isinstance(x, np.memmap) else np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"x cannot be made an array: {error}; stack pictures of one shape with np.stack") from error
    if rows.ndim == 0 or rows.dtype.kind not in "biufc":
        raise ConfigError(
            f"x must be an array of numbers with one row a picture, (N, H, W, C), got shape {rows.shape} of dtype "
            f"{rows.dtype}; write np.stack(pictures), or for files sources.folder(…) or sources.manifest(…)"
        )
    if not len(rows):
        raise ConfigError(f"x has no rows: its shape is {rows.shape}")
    if y is None:
        return ArraySource(x=rows)
    labels, names = from_memory(y, len(rows), "y")
    return ArraySource(x=rows, labels=labels, class_names=names)


def _opened(given: Any, argument: str) -> Any:
    """Return what a path to a .npy file leads to, mapped; anything else as it is.

    Raises:
        SourceError: The file is missing, or is no .npy file of numbers.
    """
    if not isinstance(given, os.PathLike) and not (isinstance(given, str) and given.endswith(".npy")):
        return given
    path = path_text(given, argument)
    if not stat.S_ISREG(file_mode(path)):
        raise SourceError(f"{path!r} is not a file; {argument} must be an array or the path of a .npy file")
    try:
        return np.lib.format.open_memmap(path, mode="r")  # never pickled objects, nor any other kind of file
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(
            f"{path!r} is no .npy file of numbers: {describe(error)}; write np.save({path!r}, {argument}), or for "
            "pictures in files sources.folder(…) or sources.manifest(…)"
        ) from error
