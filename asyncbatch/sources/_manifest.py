"""A manifest: a text file with a picture and its labels on each line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch.sources._columns import SEPARATORS, choose_columns, detect_separator, split
from asyncbatch.sources._files import FileSource
from asyncbatch.sources._labels import check_class_names, check_label_dtype, from_text
from asyncbatch.sources._lines import Lines, read_text, split_lines
from asyncbatch.sources._paths import file_mode, path_text
from asyncbatch.sources._plain import classes, integers, read_plain

__all__ = ["manifest"]

_HEAD = 100  # lines that say which column is what


def manifest(
    file: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    separator: str = "auto",
    path_column: str | int | None = None,
    label_columns: str | int | Sequence[str | int] | None = None,
    class_names: Sequence[str] | None = None,
    label_dtype: DTypeLike | None = None,
) -> FileSource:
    r"""List the pictures that a text file names, in its order, a picture and its labels on each line.

    All of these are manifests::

        cats/my cat.jpg 3            cats/1.jpg,tabby             filename,x,y
        dogs/2.png 0                 "dogs/2, old.png",beagle     cats/1.jpg,0.25,0.5

    Blank lines and lines that begin with ``#`` are skipped. The text is UTF-8, its lines end as on Unix or Windows.
    Spaces around a field are no part of it. The pictures themselves are not looked at.

    Args:
        file: The text file.
        root: The folder that relative paths start from. Default: the folder that the manifest is in.
        separator: ``" "``, ``"\t"``, ``","`` or ``";"``. The default finds out from the first 100 lines. Where spaces
            separate, the path comes first and may hold spaces too: it ends with its extension or stands in double
            quotes; labels then hold neither spaces nor commas. The others separate as in CSV.
        path_column: Where the path is, by the name in the header or the place counted from 0. Default: the column
            with a usual name (path, file, filename, image, …) if the first line has one, and neither a number nor a
            file's name, which makes it a header; else the first.
        label_columns: The labels, likewise; several become a vector in the order given, and an empty list asks for no
            labels. Default: all other columns, without those that are empty on every line or that a header leaves
            nameless (the row numbers of pandas).
        class_names: The classes in the order of their indices, for labels that are words; where labels are integers,
            the names of 0, 1, …. Default: the words that occur, sorted, so that two lists agree only if the same
            words occur in both: give `class_names` to be sure.
        label_dtype: The dtype of numbers, such as ``"float64"``, or ``str`` where class names look like numbers.
            Default: int64 for integers, which is what the losses of the frameworks take as classes, and float32, what
            they take as targets, as soon as one label has a decimal point or an exponent.

    Returns:
        N pictures; labels (N,) for one column, (N, K) for K, None for none.

    Raises:
        SourceError: The file is missing, not a text, or empty; or a line does not parse: the error gives the file,
            the line's number and text, and what was expected. NaN and infinite labels are refused too.
        ConfigError: An argument cannot be used, or names a column that is not there.
    """
    name = path_text(file, "file")
    folder = _root(name, root)
    names = check_class_names(class_names)
    dtype = check_label_dtype(label_dtype)
    if separator not in ("auto", *SEPARATORS):
        raise ConfigError(f"separator must be 'auto', ' ', '\\t', ',' or ';', got {separator!r}")
    if isinstance(label_columns, Iterable) and not isinstance(label_columns, str):
        label_columns = tuple(label_columns)  # it is looked at twice
    mark = _mark(name)
    data = read_text(name)
    if names is None and dtype is None and mark is not None:
        reopen = Reopened(str(Path(name).absolute()), folder, separator, path_column, label_columns, mark)
        source = _plain(name, data, folder, reopen)
        if source is not None:
            return source
    lines = split_lines(name, data)
    del data
    if not lines.texts:
        raise SourceError(f"{name!r} lists no pictures: every line of it is blank or a comment")

    rows = split(lines, detect_separator(lines, path_column) if separator == "auto" else separator)
    columns = choose_columns(lines, rows, path_column, label_columns)
    if columns.header:
        lines, rows = Lines(name, lines.numbers[1:], lines.texts[1:]), rows[1:]
    if not rows:
        raise SourceError(f"{name!r} lists no pictures: after the header there are no lines")

    def column(place: int) -> list[str]:
        return [row[place].strip(" \t") for row in rows]

    paths = column(columns.path)
    _check_paths(lines, paths)
    if not columns.labels:
        if names is not None:
            raise ConfigError(f"class_names is for labels, and {name!r} has none; leave it out")
        return FileSource(root=folder, paths=tuple(paths))
    labels, names = from_text([column(place) for place in columns.labels], names, dtype, lines.error)
    return FileSource(root=folder, paths=tuple(paths), labels=labels, class_names=names)


@dataclass(frozen=True, slots=True)
class Reopened:
    """A manifest, as another process makes it again."""

    file: str
    root: str
    separator: str
    path_column: str | int | None
    label_columns: str | int | Sequence[str | int] | None
    mark: tuple[int, int]

    def __call__(self) -> FileSource:
        if _mark(self.file) != self.mark:
            raise SourceError(
                f"{self.file!r} was written to or removed since it was opened; open it again in every process"
            )
        source = manifest(
            self.file, separator=self.separator, path_column=self.path_column, label_columns=self.label_columns
        )
        return replace(source, root=self.root, reopen=self)


def _mark(file: str) -> tuple[int, int] | None:
    """Return size and time of change, in ns; None where there is no file."""
    try:
        status = os.stat(file)  # noqa: PTH116 - a text throughout
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _plain(name: str, data: bytes, folder: str, reopen: Reopened) -> FileSource | None:
    """Make the source of a plain manifest; None if it is not plain, or something is wrong with it."""
    lines = read_plain(data)
    if lines is None or b"://" in data:
        return None
    texts = lines.head(_HEAD)
    head = Lines(name, [*range(1, len(texts) + 1)], texts)
    try:
        separator = detect_separator(head, reopen.path_column) if reopen.separator == "auto" else reopen.separator
        rows = split(head, separator)
        chosen = choose_columns(head, rows, reopen.path_column, reopen.label_columns)
    except (ConfigError, SourceError):
        return None  # the reader of lines says so with the right number of the line
    width = len(rows[0])
    if separator == " " and {chosen.path, *chosen.labels} != {*range(width)}:
        return None  # what is in columns that are left out may be part of a path with blanks
    lines = lines.after(chosen.header)
    fields = lines.columns(separator, width) if len(lines.starts) else None
    if fields is None:
        return None
    paths = lines.texts(fields[chosen.path])
    if not chosen.labels:
        return FileSource(root=folder, paths=paths, reopen=reopen)
    columns = [integers(lines, fields[place]) for place in chosen.labels]
    numbers = [column for column in columns if column is not None]
    if len(numbers) == len(columns):
        labels = numbers[0] if len(numbers) == 1 else np.stack(numbers, axis=1)
        return FileSource(root=folder, paths=paths, labels=labels, reopen=reopen)
    words = classes(lines, fields[chosen.labels[0]]) if len(columns) == 1 else None
    if words is None:
        return None
    return FileSource(root=folder, paths=paths, labels=words[0], class_names=words[1], reopen=reopen)


def _root(file: str, root: str | os.PathLike[str] | None) -> str:
    if root is None:
        parent = Path(file).parent
        return "" if parent == Path() else str(parent)
    folder = path_text(root, "root")
    if not stat.S_ISDIR(file_mode(folder)):
        raise SourceError(f"root must be the folder that the paths start from, and {folder!r} is a file")
    return folder


def _check_paths(lines: Lines, paths: Sequence[str]) -> None:
    for index, path in enumerate(paths):
        if not path:
            raise lines.error(index, "the picture's path is missing")
        if "://" in path:
            raise lines.error(
                index, "is a URL, and a manifest lists files; for a bucket write sources.objects('s3://bucket/prefix')"
            )
