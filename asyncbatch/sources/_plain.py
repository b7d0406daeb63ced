"""Manifests that are plain, by columns instead of line by line: ten million lines in two seconds.

Plain is what most programs write: UTF-8 without quotation marks, each line with as many separators as the first, no
blanks around fields, integers or words for labels. Everything else, and everything that is wrong, is left to the reader
of lines, which is slower and explains itself. Where both would do, they return the same.

The file is read, not mapped: a mapped file that another program cuts, or whose mount dies, ends the process.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from asyncbatch._types import Array, Indices
from asyncbatch.sources._labels import is_number

__all__ = ["PlainLines", "TextColumn", "classes", "integers", "read_plain"]

_CHUNK = 1 << 24  # bytes looked at at a time: what NumPy needs besides is a fraction of the file
_LINES = 1 << 18  # lines, likewise
_NARROW = 1 << 31  # a file of fewer bytes has its places in 32 bits: half the memory, and half the time to touch it
_LONGEST = 1 << 20  # of a line, in bytes: the reader of lines refuses longer ones
_DIGITS = 18  # so many fit int64 whatever they are
_LONGEST_WORD = 64
_NEWLINE, _RETURN, _COMMENT, _BLANKS = 10, 13, 35, (32, 9)

_Bytes = NDArray[np.uint8]
_Places = NDArray[np.signedinteger]  # of 32 bits, or of 64 in files that need them


class TextColumn(Sequence[str]):
    """One field of each line: texts that are made when they are asked for, of the file's bytes.

    Args:
        data: The file.
        starts: (N,) where each text begins.
        lengths: (N,) how many bytes it has.
    """

    def __init__(self, data: bytes, starts: _Places, lengths: NDArray[np.uint32]) -> None:
        self._data = data
        self._starts = starts
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TextColumn: ...
    def __getitem__(self, index: int | slice) -> str | TextColumn:
        if isinstance(index, slice):
            return TextColumn(self._data, self._starts[index], self._lengths[index])
        start = int(self._starts[index])
        return self._data[start : start + int(self._lengths[index])].decode()

    def at(self, indices: Indices) -> list[str]:
        """Return several texts, in a third of the time of one after another."""
        starts, lengths = self._starts[indices].tolist(), self._lengths[indices].tolist()
        return [self._data[start : start + length].decode() for start, length in zip(starts, lengths, strict=True)]

    def __iter__(self) -> Iterator[str]:
        for at in range(0, len(self), _LINES):
            starts, lengths = self._starts[at : at + _LINES].tolist(), self._lengths[at : at + _LINES].tolist()
            for start, length in zip(starts, lengths, strict=True):
                yield self._data[start : start + length].decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    def __hash__(self) -> int:
        return hash((len(self), *self[:3]))

    def __repr__(self) -> str:
        return f"<{len(self):,} texts: {', '.join(map(repr, self[:3]))}{', …' if len(self) > 3 else ''}>"

    def joined(self) -> Iterator[bytes]:
        """Yield the texts' bytes, a NUL after each, many at a time."""
        codes = np.frombuffer(self._data, np.uint8)
        for at in range(0, len(self), _LINES):
            begin = self._starts[at : at + _LINES]
            end = begin + self._lengths[at : at + _LINES]
            first = int(begin[0])
            piece = codes[first : int(end[-1]) + 1].copy()  # what follows a text is its separator or the line's end
            edges = np.zeros(len(piece) + 1, np.int8)
            edges[begin - first] += 1
            edges[end + 1 - first] -= 1
            piece[end - first] = 0
            yield piece[np.cumsum(edges[:-1], dtype=np.int8).astype(bool)].tobytes()


@dataclass(frozen=True, eq=False)
class PlainLines:
    """The lines of a plain file that are neither blank nor comments.

    Attributes:
        data: The file.
        starts: (N,) where each line begins.
        stops: (N,) where it ends.
    """

    data: bytes
    starts: _Places
    stops: _Places

    @cached_property
    def codes(self) -> _Bytes:
        """The file as numbers."""
        return np.frombuffer(self.data, np.uint8)

    def head(self, count: int) -> list[str]:
        """Return the first lines as texts."""
        pairs = zip(self.starts[:count].tolist(), self.stops[:count].tolist(), strict=True)
        return [self.data[start:stop].decode() for start, stop in pairs]

    def after(self, count: int) -> PlainLines:
        """Return the lines without the first few."""
        return PlainLines(self.data, self.starts[count:], self.stops[count:])

    def columns(self, separator: str, width: int) -> list[tuple[_Places, _Places]] | None:
        """Return where each of `width` fields begins and ends, (N,) each; None if a line has others, or empty ones."""
        codes, code = self.codes, ord(separator)
        others = [ord(other) for other in "\t,;" if other != separator] if separator == " " else []
        if any(bytes([other]) in self.data for other in others):
            return None  # the path may hold blanks, or two kinds are mixed
        places = _where(codes, code)
        wanted = len(self.starts) * (width - 1)
        if len(places) > wanted:  # some may be in comments
            lines = np.searchsorted(self.starts, places, side="right") - 1
            places = places[(lines >= 0) & (places < self.stops[lines])]
        if len(places) != wanted:
            return None
        marks = places.reshape(len(self.starts), width - 1).T
        fields = list(zip([self.starts, *(mark + 1 for mark in marks)], [*marks, self.stops], strict=True))
        # Separators rise, so where no field is empty each line has its own.
        return None if any(_is_empty_or_blank(codes, *field) for field in fields) else fields

    def texts(self, column: tuple[_Places, _Places]) -> TextColumn:
        """Return a column as texts."""
        begin, end = column
        lengths = np.empty(len(begin), np.uint32)
        np.subtract(end, begin, out=lengths, casting="unsafe")
        return TextColumn(self.data, begin, lengths)


def read_plain(data: bytes) -> PlainLines | None:
    """Find the lines of a file; None if it is not plain."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or b'"' in data or b"\0" in data or not _is_text(data):
        return None
    if not data.endswith(b"\n"):
        data += b"\n"
    codes = np.frombuffer(data, np.uint8)
    stops = _where(codes, _NEWLINE)
    starts = np.zeros_like(stops)
    np.add(stops[:-1], 1, out=starts[1:])
    if b"\r" in data:
        returned = (stops > starts) & (_letters(codes, stops, before=1) == _RETURN)
        if np.count_nonzero(returned) != len(_where(codes, _RETURN)):
            return None
        stops -= returned
    if any((stops[piece] - starts[piece]).max() > _LONGEST for piece in _pieces(len(stops))):
        return None
    first = _letters(codes, starts)
    if first.min() > _COMMENT:  # nor is any line empty: that would begin with its end
        return PlainLines(data, starts, stops)
    says = (stops > starts) & (first != _COMMENT)
    if (np.isin(first, _BLANKS) & says).any() or not says.any():
        return None
    return PlainLines(data, starts[says], stops[says])


def integers(lines: PlainLines, column: tuple[_Places, _Places]) -> Array | None:
    """Return a column as int64, (N,); None if one of its fields is no integer of up to 18 digits."""
    values = np.empty(len(column[0]), np.int64)
    for piece in _pieces(len(values)):
        begin, end = (places[piece] for places in column)
        first = lines.codes[begin]
        signed = (first == ord("-")) | (first == ord("+"))
        digits = end - begin - signed
        if digits.min() < 1 or digits.max() > _DIGITS:
            return None
        value = np.zeros(len(begin), np.int64)
        for place in range(int(digits.max())):
            counts = place < digits
            digit = lines.codes[np.minimum(begin + signed + place, end - 1)] - np.uint8(48)
            if (counts & (digit > 9)).any():
                return None
            value = np.where(counts, value * 10 + digit, value)
        values[piece] = np.where(first == ord("-"), -value, value)
    return values


def classes(lines: PlainLines, column: tuple[_Places, _Places]) -> tuple[Array, tuple[str, ...]] | None:
    """Return a column of words as the indices of the sorted words, (N,) int64, and the words.

    None if a word looks like a number or a file's name, is very long or no ASCII, or if all are NaN or infinities.
    """
    known: dict[bytes, int] = {}
    indices = np.empty(len(column[0]), np.int64)
    for piece in _pieces(len(indices)):
        begin, end = (places[piece] for places in column)
        longest = int((end - begin).max())
        if longest > _LONGEST_WORD:
            return None
        letters = np.zeros((len(begin), longest), np.uint8)
        for place in range(longest):
            counts = begin + place < end
            letters[counts, place] = lines.codes[begin[counts] + place]
        if (letters > 127).any() or (letters == ord(".")).any():
            return None
        words, places = np.unique(letters.view(f"S{longest}").ravel(), return_inverse=True)
        numbers = [known.setdefault(word, len(known)) for word in words.tolist()]
        indices[piece] = np.array(numbers, np.int64)[places]
    texts = [word.decode() for word in known]
    if any(map(is_number, texts)) or all(map(_is_no_finite_number, texts)):
        return None
    names = sorted(texts)
    ranks = {name: rank for rank, name in enumerate(names)}
    return np.array([ranks[text] for text in texts], np.int64)[indices], tuple(names)


def _is_no_finite_number(text: str) -> bool:
    """Whether Python reads it as a number that is none: the reader of lines says which line it is on."""
    return text.lstrip("+-").lower() in ("nan", "inf", "infinity")


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _where(codes: _Bytes, code: int) -> _Places:
    """Return where a letter stands, rising."""
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(codes), _CHUNK)]
    ends = np.cumsum([np.count_nonzero(codes[chunk] == code) for chunk in chunks])
    places = np.empty(ends[-1], np.int32 if len(codes) < _NARROW else np.int64)
    for chunk, end in zip(chunks, ends.tolist(), strict=True):
        found = np.flatnonzero(codes[chunk] == code)
        np.add(found, chunk.start, out=places[end - len(found) : end], casting="unsafe")
    return places


def _pieces(count: int) -> Iterator[slice]:
    """Yield slices of so many lines that what is made of them fits the processor's caches."""
    return (slice(at, at + _LINES) for at in range(0, count, _LINES))


def _letters(codes: _Bytes, places: _Places, *, before: int = 0) -> _Bytes:
    """Return the letters at the places, or before them, (N,)."""
    letters = np.empty(len(places), np.uint8)
    for piece in _pieces(len(places)):
        letters[piece] = codes[places[piece] - before]
    return letters


def _is_empty_or_blank(codes: _Bytes, begin: _Places, end: _Places) -> bool:
    if (begin >= end).any():
        return True
    for letters in (_letters(codes, begin), _letters(codes, end, before=1)):
        if letters.min() <= max(_BLANKS) and any((letters == blank).any() for blank in _BLANKS):
            return True
    return False
