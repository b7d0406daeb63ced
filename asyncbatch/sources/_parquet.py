"""Pictures in Parquet files, as Hugging Face publishes datasets."""

from __future__ import annotations

import glob
import itertools
import operator
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asyncbatch._arguments import Size, size_in_bytes
from asyncbatch._chunked import ChunkedSample
from asyncbatch._errors import ConfigError, FileChanged, SourceError, describe
from asyncbatch._types import Array, Indices
from asyncbatch.sources._fingerprint import Digest
from asyncbatch.sources._parquet_labels import class_names, labels_of
from asyncbatch.sources._paths import file_mode, path_text

__all__ = ["ParquetSource", "parquet"]


@dataclass(frozen=True, slots=True)
class _File:
    """An open file's facts, without the file.

    Attributes:
        path: Where it is, as it was found.
        mark: Its size and time of change, in ns, when they were read.
        metadata: Its footer, as pyarrow has it.
        leaf: The column of the pictures' bytes, such as "image.bytes".
        rows: How many rows each row group has.
        sizes: What the pictures of each row group take in memory, in bytes.
    """

    path: str
    mark: tuple[int, int]
    metadata: Any
    leaf: str
    rows: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ParquetSource:
    """Rows of Parquet files, in their order. Made by `sources.parquet`.

    Attributes:
        files: The files.
        labels: (N,) int64 for classes and integers, (N,) float32 for floats, (N, K) for lists of K; None where there
            are no labels.
        class_names: The name of each class index; empty where labels are not named classes.
        keep: The budget for row groups in memory, in bytes.
    """

    files: Sequence[_File]
    labels: Array | None
    class_names: tuple[str, ...]
    keep: int

    @cached_property
    def _groups(self) -> list[tuple[int, int, int]]:
        """Of each row group its file, its place there, and the row of the file that it begins with."""
        return [
            (place, group, first)
            for place, file in enumerate(self.files)
            for group, first in enumerate(itertools.accumulate(file.rows[:-1], initial=0))
        ]

    @cached_property
    def _ends(self) -> Indices:
        return np.cumsum([rows for file in self.files for rows in file.rows], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int, /) -> ChunkedSample:
        index = range(len(self))[operator.index(index)]
        chunk = int(np.searchsorted(self._ends, index, side="right"))
        place, _, first = self._groups[chunk]
        row = index - (int(self._ends[chunk - 1]) if chunk else 0)
        path = self.files[place].path
        label = None if self.labels is None else self.labels[index]
        return ChunkedSample(key=f"{path}:{first + row}", label=label, path=path, chunk=chunk, row=row)

    def chunk_size(self, chunk: int, /) -> int:
        """Return how many bytes of memory the pictures of a row group take."""
        place, group, _ = self._groups[chunk]
        return self.files[place].sizes[group]

    def load_chunk(self, chunk: int, /) -> Sequence[bytes]:
        """Read the pictures of a row group.

        Raises:
            FileChanged: The file was written to since the source was made.
            OSError: It cannot be read.
        """
        place, group, _ = self._groups[chunk]
        file = self.files[place]
        if _mark(file.path) != file.mark:
            raise FileChanged("the file was written to since it was opened; open it again")
        with _pyarrow().parquet.ParquetFile(file.path, metadata=file.metadata) as opened:
            column = opened.read_row_group(group, columns=[file.leaf], use_threads=False).column(0)
        return _Rows([part.flatten()[0] if part.type.num_fields else part for part in column.chunks])

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the files' names, order, row groups and their sizes, labels and class names.

        A moved tree keeps it. The pictures are not read.
        """
        digest = Digest()
        digest.texts([Path(file.path).name for file in self.files])
        for file in self.files:
            digest.array(np.array([file.rows, file.sizes], np.int64))
        digest.array(self.labels)
        digest.texts(self.class_names)
        return digest.text()

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else f"labels {self.labels.shape} {self.labels.dtype}"
        return f"ParquetSource({len(self):,} rows of {len(self.files):,} files, {labels})"


class _Rows(Sequence[bytes]):
    """The pictures of a row group; bytes are made of one as it is asked for."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, row: Any, /) -> Any:
        for part in self._parts:
            if row < len(part):
                data = part[row].as_py()
                if data is None:
                    raise ValueError("the row holds no bytes; pictures that are elsewhere are not looked for")
                return data
            row -= len(part)
        raise IndexError(row)


def parquet(
    pattern: str | os.PathLike[str], *, image: str = "image", label: str | None = "label", keep: Size = "512MB"
) -> ParquetSource:
    """Serve pictures in Parquet files, as Hugging Face publishes datasets. Needs pyarrow.

    Pictures are read a row group at a time, in threads, and a row group is kept for its other pictures until its room
    is wanted. So `sampler=BlockShuffle(rows of a row group)` reads each one once, where a full shuffle reads one for
    almost every picture. Sixteen of them, as `BlockShuffle` mixes, should fit in `keep`.

    Args:
        pattern: A file, a pattern such as "data/train-*.parquet", or a folder, for every file in it and its sub-folders
            that ends in .parquet. Files are in the order of their names, and must have the same columns.
        image: The column of the pictures' files: binary, or a struct with `bytes`, as Hugging Face writes it.
        label: The column of the labels: integers become int64, floats and decimals float32, texts class indices in the
            order of the sorted names, lists of K numbers (N, K). None for no labels. It is read at once.
        keep: The budget for row groups in memory, in bytes or as "512MB"; never more than a quarter of the memory that
            the container leaves to this process.

    Returns:
        N pictures, one a row; `class_names` are those of texts, or of Hugging Face's `ClassLabel`.

    Raises:
        SourceError: There is no such file, one is no Parquet, has other columns, or lacks a label.
        ConfigError: An argument cannot be used, or names a column that is not there.
        ImportError: pyarrow is not installed.
    """
    pyarrow = _pyarrow()
    budget = size_in_bytes(keep, "keep")
    for argument, column in (("image", image), ("label", label)):
        if not isinstance(column, str) and not (column is None and argument == "label"):
            raise ConfigError(f"{argument} must be a column's name, got {column!r}; write {argument}={argument!r}")
    files: list[_File] = []
    parts: list[tuple[str, Any]] = []
    names: tuple[str, ...] = ()
    for path in _paths(pattern):
        try:
            mark = _mark(path)
            with pyarrow.parquet.ParquetFile(path) as opened:
                schema = opened.schema_arrow
                leaf = _leaf(path, schema, image)
                files.append(_facts(path, mark, opened.metadata, leaf))
                if label is not None and _has_labels(path, schema, image, label):
                    parts.append((path, opened.read(columns=[label], use_threads=False).column(0)))
                    names = names or class_names(schema.metadata, label)
        except (OSError, pyarrow.ArrowException) as error:
            raise SourceError(f"{path!r} cannot be read as Parquet: {describe(error)}") from error
    if not sum(sum(file.rows) for file in files):
        raise SourceError(f"{os.fsdecode(pattern)!r} holds no pictures: its files have no rows")
    if not parts:
        return ParquetSource(files=files, labels=None, class_names=(), keep=budget)
    if len(parts) < len(files):
        raise SourceError(
            f"{parts[0][0]!r} has a column {label!r}, and other files have none; for no labels write label=None"
        )
    labels, words = labels_of(pyarrow, parts, str(label))
    return ParquetSource(files=files, labels=labels, class_names=words or names, keep=budget)


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise  # it is there, and something that it needs is not
        raise ImportError("sources.parquet needs pyarrow: pip install 'asyncbatch[parquet]'", name="pyarrow") from error
    return pyarrow


def _paths(pattern: str | os.PathLike[str]) -> list[str]:
    """Return the files that are meant, sorted.

    Raises:
        SourceError: There are none.
    """
    text = path_text(pattern, "pattern")
    if os.path.lexists(text) or not glob.has_magic(text):
        if not stat.S_ISDIR(file_mode(text)):
            return [text]
        found, where = (
            [str(path) for path in Path(text).rglob("*.parquet")],
            f"{text!r} holds no file ending in .parquet",
        )
    else:
        found, where = glob.glob(text, recursive=True), f"no file is called {text!r}"  # noqa: PTH207 - texts throughout
    files = sorted(path for path in found if Path(path).is_file())
    if not files:
        raise SourceError(f"{where}; write sources.parquet('data/train-*.parquet') with a pattern that finds some")
    return files


def _mark(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - a text throughout
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")
    return status.st_size, status.st_mtime_ns


def _leaf(path: str, schema: Any, image: str) -> str:
    """Return the column of the pictures' bytes as Parquet calls it.

    Raises:
        ConfigError: There is none.
    """
    if image not in schema.names:
        raise _no_column(path, schema, "image", image)
    kind = schema.field(image).type
    inner = [kind.field(place) for place in range(kind.num_fields)] if str(kind).startswith("struct") else []
    for name, one in [(f"{image}.{field.name}", field.type) for field in inner if field.name == "bytes"] or [
        (image, kind)
    ]:
        if str(one) in ("binary", "large_binary", "binary_view"):
            return name
    raise ConfigError(
        f"image={image!r} is {kind} in {path!r}, and must be binary or a struct with binary `bytes`; {_columns(schema)}"
    )


def _has_labels(path: str, schema: Any, image: str, label: str) -> bool:
    if label in schema.names:
        return True
    if schema.names == [image]:  # pictures and nothing else
        return False
    raise _no_column(path, schema, "label", label)


def _no_column(path: str, schema: Any, argument: str, name: str) -> ConfigError:
    none = "; for no labels write label=None" if argument == "label" else ""
    return ConfigError(f"{argument}={name!r} is no column of {path!r}; {_columns(schema)}{none}")


def _columns(schema: Any) -> str:
    return "its columns are " + ", ".join(f"{field.name!r} ({field.type})" for field in schema)


def _facts(path: str, mark: tuple[int, int], metadata: Any, leaf: str) -> _File:
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    at = next(at for at in range(metadata.num_columns) if metadata.schema.column(at).path == leaf)
    sizes = tuple(max(0, group.column(at).total_uncompressed_size) for group in groups)
    return _File(path, mark, metadata, leaf, tuple(group.num_rows for group in groups), sizes)
