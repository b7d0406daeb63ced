"""A line's fields: how they are separated, and which are the picture and its labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch.sources._files import PICTURE_EXTENSIONS
from asyncbatch.sources._labels import is_number
from asyncbatch.sources._lines import Lines, shortened

__all__ = ["SEPARATORS", "Columns", "choose_columns", "detect_separator", "split"]

SEPARATORS = ("\t", ",", ";", " ")

# Lines that are looked at to find the separator; one that is odd further down has its own error.
_SAMPLE = 100

_PATH_NAMES = ("path", "file_path", "filepath", "image_path", "img_path", "file", "filename", "file_name",
               "image", "img", "image_file", "picture")  # fmt: skip
_LABEL_NAMES = frozenset({"label", "labels", "class", "class_id", "class_name", "category", "target"})

_NAMES_A_FILE = re.compile(r".*\.[A-Za-z][A-Za-z0-9]{0,4}")
_PICTURE = "|".join(map(re.escape, PICTURE_EXTENSIONS))
# A path may hold spaces, so it ends where something that looks like the end of a file name does; the last such place
# is taken, except that pictures' extensions come before others: a class may be called "St.Elmo".
_SPACED = (
    re.compile(r'"([^"]+)"(?:[ \t]+(.*))?'),
    re.compile(rf"(.*(?:{_PICTURE}))(?:[ \t]+(.*))?", re.IGNORECASE),
    re.compile(rf"({_NAMES_A_FILE.pattern})(?:[ \t]+(.*))?"),
    re.compile(r"([^ \t]+)(?:[ \t]+(.*))?"),
)
_WORD = re.compile(r"[^ \t]+")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a line are what.

    Attributes:
        header: Whether the first line names the columns.
        path: The place of the picture's path.
        labels: The places of the labels, in the order wanted; empty where there are none.
    """

    header: bool
    path: int
    labels: tuple[int, ...]


def detect_separator(lines: Lines, path_column: str | int | None) -> str:
    """Return the separator under which the first lines make most sense.

    That is the one that leaves most paths looking like file names, then the one that finds labels on most lines, then
    the one that finds as many on each. Among equals tab comes before comma, semicolon and space.
    """

    def sense(separator: str) -> tuple[int, int, bool]:
        rows = [_split_or_nothing(text, separator) for text in lines.texts[:_SAMPLE]]
        first = [cell.strip() for cell in rows[0]]
        at = path_column if isinstance(path_column, int) else first.index(path_column) if path_column in first else None
        if at is None:
            at = _path_by_name(first) if _is_header(first) else 0
        return (
            sum(at < len(row) and _names_a_file(row[at]) for row in rows),
            sum(len(row) > 1 for row in rows),
            len({len(row) for row in rows}) == 1,
        )

    best = max(SEPARATORS, key=sense)
    # Paths alone: of the separators only spaces tell a label on a later line from a part of its path.
    return best if sense(best)[1] else " "


def split(lines: Lines, separator: str) -> list[list[str]]:
    """Split every line into its fields, as many on each; the spaces around fields may still be there.

    Tabs, commas and semicolons separate as in CSV, with double quotes around what holds one. Spaces separate a path,
    which may be quoted and else ends with its extension, from labels that hold none.

    Raises:
        SourceError: A line has a broken quote, mixes separators, or has another number of fields than the first.
    """
    rows: list[list[str]] = []
    if separator == " ":
        rows = [_split_spaced(text) for text in lines.texts]
    else:
        reader = csv.reader(lines.texts, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for row in reader:
                if reader.line_num > len(rows) + 1:
                    raise lines.error(len(rows), "a quotation mark is opened and not closed")
                rows.append(row)
        except csv.Error as error:
            raise lines.error(len(rows), f"is no CSV, {error}; double a quotation mark that is meant") from error
    width = len(rows[0])
    for index, row in enumerate(rows):
        if len(row) != width:
            raise lines.error(index, _width_reason(len(row), width, separator, lines.numbers[0]))
        if separator == " " and any("," in label or ";" in label for label in row[1:]):
            raise lines.error(index, "separates by spaces and by commas; use one of them throughout")
    return rows


def choose_columns(
    lines: Lines,
    rows: Sequence[Sequence[str]],
    path_column: str | int | None,
    label_columns: str | int | Sequence[str | int] | None,
) -> Columns:
    """Decide which column is the picture and which are its labels, and whether the first line is a header.

    Raises:
        ConfigError: A column that is asked for is not there.
        SourceError: The columns do not tell by themselves, so that the caller has to.
    """
    first = [cell.strip() for cell in rows[0]]
    asked = _as_tuple(label_columns)
    by_name = [column for column in (path_column, *(asked or ())) if isinstance(column, str)]
    header = bool(by_name) or _is_header(first)

    def place(column: str | int, argument: str) -> int:
        if isinstance(column, str) and first.count(column) == 1:
            return first.index(column)
        if isinstance(column, int) and 0 <= column < len(first):
            return column
        raise ConfigError(
            f"{argument}={column!r} is not one column of {lines.file}: its line {lines.numbers[0]} has "
            f"{_listed(first)}. Give a name that stands there once, or a place counted from 0"
        )

    labels = None if asked is None else tuple(place(column, "label_columns") for column in asked)
    if path_column is not None:
        path = place(path_column, "path_column")
    else:
        path = _path_by_name(first) if _is_header(first) else 0
        if not _is_header(first):
            _check_first_is_path(lines, rows, first if header else None)
    if labels is None:
        labels = _all_others(lines, rows[header:], first if header else None, path)
    if path in labels:
        raise ConfigError(f"label_columns={label_columns!r} holds the column of the pictures' paths; leave it out")
    return Columns(header, path, labels)


def _as_tuple(label_columns: str | int | Sequence[str | int] | None) -> tuple[str | int, ...] | None:
    if label_columns is None or isinstance(label_columns, str | int):
        return None if label_columns is None else (label_columns,)
    if not isinstance(label_columns, Iterable):
        raise ConfigError(f"label_columns must be a name, a place or a list of them, got {label_columns!r}")
    return tuple(label_columns)


def _split_spaced(text: str) -> list[str]:
    text = text.strip(" \t")
    # The last pattern takes every text that is not blank.
    path, labels = next(found.groups() for pattern in _SPACED if (found := pattern.fullmatch(text)))
    # Not str.split, which also splits at the no-break and ideographic spaces that a name may hold.
    return [path, *_WORD.findall(labels)] if labels else [path]


def _split_or_nothing(text: str, separator: str) -> list[str]:
    if separator == " ":
        return _split_spaced(text)
    try:
        return next(csv.reader([text], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return []


def _names_a_file(field: str) -> bool:
    return _NAMES_A_FILE.fullmatch(field.strip()) is not None


def _known(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def _is_header(first: Sequence[str]) -> bool:
    # A class may be called "image": a line with a number or a file's name is no header.
    return any(_known(cell) in _PATH_NAMES for cell in first) and not any(
        is_number(cell) or _names_a_file(cell) for cell in first
    )


def _path_by_name(header: Sequence[str]) -> int:
    """Return where the best known of the names for a path stands in a header that has one."""
    names = [_known(cell) for cell in header]
    return names.index(next(name for name in _PATH_NAMES if name in names))


def _check_first_is_path(lines: Lines, rows: Sequence[Sequence[str]], header: Sequence[str] | None) -> None:
    """Refuse to take the first column for the paths where a header or another column is the likelier reading."""
    if header is None and len(rows) > 1 and not any(map(_names_a_file, rows[0])) and _names_a_file(rows[1][0]):
        raise lines.error(
            0,
            "seems to name the columns; write which is which: "
            f"path_column={rows[0][0].strip()!r}, label_columns={rows[0][-1].strip()!r}",
        )
    at = 1 if header is not None and len(rows) > 1 else 0
    likely = [place for place, field in enumerate(rows[at]) if _names_a_file(field)]
    if likely and likely[0] != 0:
        column = likely[0] if header is None else header[likely[0]]
        raise lines.error(at, f"the picture seems not to be in the first column; write path_column={column!r}")


def _all_others(
    lines: Lines, rows: Sequence[Sequence[str]], header: Sequence[str] | None, path: int
) -> tuple[int, ...]:
    """Return the columns that are labels when the caller does not say: the others, if that can only be meant."""
    width = len(rows[0]) if rows else 0
    others = [
        column
        for column in range(width)
        # pandas writes row numbers in a column without a name; one that is empty everywhere is a comma at the end.
        if column != path and (header is None or header[column]) and any(row[column].strip() for row in rows)
    ]
    if header is not None and len(others) > 1:
        labels = [header[column] for column in others if _known(header[column]) in _LABEL_NAMES]
        if labels:
            raise SourceError(
                f"{lines.file} has several columns besides the pictures: {_listed([header[c] for c in others])}. "
                f"Choose the labels among them: label_columns={labels[0]!r}"
            )
    return tuple(others)


def _listed(names: Sequence[str]) -> str:
    return shortened(", ".join(map(repr, names)))


def _width_reason(found: int, wanted: int, separator: str, first_number: int) -> str:
    counted = f"{found} {'field' if found == 1 else 'fields'} where line {first_number} has {wanted}"
    if found < wanted:
        return f"{counted}: a label is missing"
    if separator == " ":
        return f"{counted}; for class names with spaces separate by tabs or commas"
    return f"{counted}; put double quotes around a path or name that holds the separator"
