"""The labels of Parquet files, and the classes' names that Hugging Face writes beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch._types import Array
from asyncbatch.sources._labels import from_memory

__all__ = ["class_names", "labels_of"]


def labels_of(pyarrow: Any, columns: Sequence[tuple[str, Any]], label: str) -> tuple[Array, tuple[str, ...]]:
    """Make the label columns of files into one array.

    Args:
        pyarrow: The module, which is an extra.
        columns: Each file's path and its `ChunkedArray`.
        label: What the column is called.

    Returns:
        (N,) int64, float32 or bool, or (N, K); and the class names, empty when the labels are numbers.

    Raises:
        SourceError: A label is missing or not finite, or the files do not agree.
        ConfigError: The column holds no labels.
    """
    kind = columns[0][1].type
    for path, column in columns:
        if column.type != kind:
            raise SourceError(f"label={label!r} is {column.type} in {path!r} and {kind} in {columns[0][0]!r}")
        if column.null_count:
            row = next(row for row, value in enumerate(column) if not value.is_valid)
            raise SourceError(f"{path!r} has no {label!r} in {column.null_count:,} rows, the first of them {row}")
    whole = pyarrow.chunked_array([chunk for _, column in columns for chunk in column.chunks], type=kind)
    types = pyarrow.types
    if types.is_dictionary(kind):
        whole, kind = whole.cast(kind.value_type), kind.value_type
    if types.is_string(kind) or types.is_large_string(kind):
        return _class_indices(whole)
    if types.is_integer(kind) or types.is_boolean(kind):
        return from_memory(whole.to_numpy(), len(whole), "label")
    if types.is_floating(kind) or types.is_decimal(kind):
        numbers: Array = whole.cast(pyarrow.float64()).to_numpy().astype(np.float32)
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise SourceError(
                f"the label of row {row:,}, counted over all files, is {numbers[row]}, and a single such target spoils "
                "a training; mend or remove it"
            )
        return numbers, ()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return from_memory(whole.to_pylist(), len(whole), "label")
    raise ConfigError(
        f"label={label!r} is {kind}, and must be integers, floats, texts, or lists of as many numbers each; for no "
        "labels write label=None"
    )


def _class_indices(texts: Any) -> tuple[Array, tuple[str, ...]]:
    encoded = texts.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    names = tuple(sorted(words))
    ranks = {name: rank for rank, name in enumerate(names)}
    return np.array([ranks[word] for word in words], np.int64)[encoded.indices.to_numpy()], names


def class_names(metadata: Mapping[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    """Return the names of Hugging Face's `ClassLabel`, from a schema's metadata; empty where there are none."""
    try:
        found: Any = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        for key in ("info", "features", label, "names"):
            found = found[key]
    except (ValueError, KeyError, TypeError, RecursionError):  # whoever wrote it, the pictures are there all the same
        return ()
    usable = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if usable else ()
