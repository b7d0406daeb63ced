"""Parts of one file that lie side by side, such as the members of an archive: one read brings them all.

A mount answers a read of a few megabytes hardly later than one of a few kilobytes, and each file, or part of one, that
is read by itself waits for an answer of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from asyncbatch.readers._whole import (
    FLAGS,
    Content,
    Hop,
    Outcome,
    PutOff,
    Readable,
    Room,
    check_kind,
    read_exactly,
    size_to_read,
)

if TYPE_CHECKING:
    from asyncbatch.readers._flight import Ask

__all__ = ["LONGEST", "is_part", "neighbours", "read_together", "together"]

# Bytes of one read: some 70 photographs as ImageNet has them. More would hold back those that wait for the first.
LONGEST = 4 * 2**20

# Bytes between two parts that are read along rather than jumped over: a header, or a label, in an archive.
_GAP = 2**16


def together(first: Ask, near: Sequence[Ask]) -> list[Ask]:
    """Return a read, and those of some others that are brought by one read with it, in the order of the file.

    Args:
        first: The one whose turn it is.
        near: Others of parts of the same file.
    """
    if not near:
        return [first]
    in_order = sorted([first, *near], key=_offset)
    begin = end = next(place for place, ask in enumerate(in_order) if ask is first)
    parts = [ask.part for ask in in_order]
    while end + 1 < len(parts) and _go_together(parts[begin], parts[end], parts[end + 1], parts[end + 1]):
        end += 1
    while begin and _go_together(parts[begin - 1], parts[begin - 1], parts[begin], parts[end]):
        begin -= 1
    return in_order[begin : end + 1]


def neighbours(parts: Sequence[Readable]) -> Iterator[tuple[int, int]]:
    """Yield where in a sequence those begin and end that one read brings."""
    start = 0
    for stop in range(1, len(parts) + 1):
        if stop < len(parts) and parts[stop].path == parts[start].path and is_part(parts[stop]):
            first, one, next_one = parts[start], parts[stop - 1], parts[stop]
            if is_part(first) and _go_together(first, one, next_one, next_one):
                continue
        yield start, stop
        start = stop


def read_together(parts: Sequence[Readable], rooms: Sequence[Room | None], hop: Hop) -> list[Outcome | Exception]:
    """Read parts of one file by one read; in a thread.

    Args:
        parts: What to read, in the order of the file.
        rooms: Where to put it.
        hop: For which it is done.

    Returns:
        What came of each. Whatever goes wrong is found out for each by itself.
    """
    began = perf_counter()
    results = _together(parts, rooms, hop) if len(parts) > 1 else None
    if results is None:
        return [hop.result(part, room) for part, room in zip(parts, rooms, strict=True)]
    share = (perf_counter() - began) / len(parts)  # each has its part of the time, one after the other
    for place, result in enumerate(results):
        if isinstance(result, Content):
            result.began = began + place * share
            result.ended = result.began + share
    return results


def _together(parts: Sequence[Readable], rooms: Sequence[Room | None], hop: Hop) -> list[Outcome | Exception] | None:
    try:
        return [*_read(parts, rooms, hop)]
    except OSError:
        return None


def _read(parts: Sequence[Readable], rooms: Sequence[Room | None], hop: Hop) -> Iterator[Outcome]:
    descriptor = os.open(parts[0].path, FLAGS)
    try:
        before = os.fstat(descriptor)
        check_kind(before.st_mode)
        sizes = [size_to_read(part, before.st_size, hop.max_size) for part in parts]
        fits = [room is None or room.claim(size) for room, size in zip(rooms, sizes, strict=True)]
        wanted = [part for part, there in zip(parts, fits, strict=True) if there]
        if not wanted:
            yield from map(PutOff, sizes)
            return
        start = wanted[0].offset
        length = max(part.offset + size for part, size in zip(parts, sizes, strict=True)) - start
        os.lseek(descriptor, start, os.SEEK_SET)
        data, got = read_exactly(descriptor, length, hop)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if got < length or after.st_size != before.st_size:
        raise OSError("not all of it came")  # which of the parts it concerns, and what it is, they find out
    touched = after.st_mtime_ns != before.st_mtime_ns
    for part, size, there in zip(parts, sizes, fits, strict=True):
        if there:
            place = part.offset - start
            piece = bytes(data[place : place + size])
            yield Content(piece, after.st_size, after.st_mtime_ns, after.st_dev, touched)
        else:
            yield PutOff(size)


def is_part(part: Readable) -> bool:
    """Whether a read is of a part of a file whose place and size are known."""
    # A user's source may have anything here, which is its sample's error and no other's.
    return type(part.length) is int and type(part.offset) is int and part.length >= 0 <= part.offset


def _offset(ask: Ask) -> int:
    return ask.part.offset


def _end(part: Readable) -> int:
    return part.offset + (part.length or 0)


def _go_together(first: Readable, one: Readable, next_one: Readable, last: Readable) -> bool:
    """Whether one read may bring what lies from a first part to a last one, two in the middle of which are next."""
    gap = next_one.offset - _end(one)
    return next_one.offset >= one.offset and gap <= _GAP and _end(last) - first.offset <= LONGEST
