"""Decoded rows of one source, mapped into memory: in files of a `Store`, or in memory alone.

A row's place is its sample's index. A table says of each whether it is there, and with which checksum; the word of a
row is written in one piece and after the row, so that whoever reads it, and whoever is killed when, finds the row
whole or not at all. The file of rows is as long as all of them from the beginning, with holes where none are; rows are
written by calls, which fail where the disk is full, and not through the mapping, which would end the process.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import weakref
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from asyncbatch._types import Array, Indices
from asyncbatch.readers._contents import Contents

__all__ = ["FOLDER", "Room", "Rows"]

FOLDER = "decoded"
"""Where in a `Store` the rows of each source have a folder."""

_BEGUN, _HELD = 1 << 32, 2 << 32  # above the checksum; 0 is a row that is not there


class Room(Protocol):
    """How much may be kept; see `Store`."""

    is_open_for_more: bool

    def guarded(self) -> AbstractContextManager[None]: ...
    def count(self, size: int, /) -> bool: ...
    def give_back(self, size: int, /) -> None: ...
    def failed(self, size: int, error: OSError, /) -> None: ...


class Rows:
    """Rows of one shape, some of them there. May be used from any thread.

    Args:
        room: How much more may be kept.
        rows: (count, *shape) uint8; what is not there is arbitrary.
        table: (count,) uint64; zeros at first.
        write: Puts a row in its place.
        name: What they are called in messages.

    Attributes:
        size: Bytes of a row.
    """

    def __init__(self, room: Room, rows: Array, table: Array, write: Callable[[int, Array], None], name: str) -> None:
        self._room = room
        self._rows = rows
        self._table = table
        self._write = write
        self._name = name
        self.size = math.prod(rows.shape[1:])

    @classmethod
    def of_files(cls, room: Room, folder: Path, count: int, shape: tuple[int, ...]) -> Self:
        """Open the rows in a folder, made if they are not there.

        A decode thread may be at them still when an iteration has ended: they close with the last reference to them.

        Raises:
            OSError: There is no room for as much as the table.
        """
        size = math.prod(shape)
        # The table is written through its mapping, which the process would not survive on a full disk.
        rows, table = _File(folder / "rows", count * size, holes=True), _File(folder / "table", count * 8, holes=False)
        words = np.frombuffer(mmap.mmap(table.number, count * 8), np.uint64)
        if rows.has_grown:  # it is new, or was cut: what a table says of it is not there
            words[:] = 0
        pixels = np.frombuffer(mmap.mmap(rows.number, count * size, prot=mmap.PROT_READ), np.uint8)
        return cls(room, pixels.reshape(count, *shape), words, rows.write, str(folder / "rows"))

    @classmethod
    def found(cls, room: Room, folder: Path) -> Self | None:
        """Open rows that another run left, whatever their shape; None if it did not come to that."""
        try:
            count, size = (folder / "table").stat().st_size // 8, (folder / "rows").stat().st_size
        except OSError:  # no folder of ours, or not finished
            return None
        return cls.of_files(room, folder, count, (size // count,)) if 0 < count <= size else None

    @classmethod
    def in_memory(cls, room: Room, count: int, shape: tuple[int, ...]) -> Self:
        """Return rows in memory; what is not there takes up none."""
        pixels: Array = np.frombuffer(_untouched(count * math.prod(shape)), np.uint8).reshape(count, *shape)
        return cls(room, pixels, np.zeros(count, np.uint64), pixels.__setitem__, "memory")

    def __len__(self) -> int:
        return len(self._table)

    @property
    def has_room(self) -> bool:
        """Whether more rows are kept still."""
        return self._room.is_open_for_more

    def held(self, indices: Indices) -> Array:
        """Return for each index whether its row is there."""
        return self._table[indices] >= _HELD

    def is_whole(self, index: int) -> bool:
        """Whether a row is there and what it was when it came; what is not is there no more."""
        word = int(self._table[index])
        if word == _HELD | _checksum(self._rows[index]):
            return True
        if word >= _HELD:
            with self._room.guarded():
                if first := int(self._table[index]) == word:  # to find out
                    self._table[index] = 0
            if first:
                self._room.give_back(self.size)
        return False

    def row(self, index: int) -> Array:
        """Return a row that is there, not to be written to."""
        row: Array = self._rows[index]
        return row

    def take(self, indices: Indices, out: Array) -> None:
        """Copy rows that are there."""
        self._rows.take(indices, 0, out, "clip")  # with "raise" they would be copied twice

    def put(self, index: int, row: Array) -> None:
        """Keep a row, if there is room."""
        if not self._room.is_open_for_more or self._table[index]:
            return
        with self._room.guarded():
            if self._table[index] or not self._room.count(self.size):  # somebody else is at it
                return
            self._table[index] = _BEGUN
        try:
            self._write(index, row)
        except OSError as error:
            self._table[index] = 0
            self._room.failed(self.size, error)
        else:
            self._table[index] = _HELD | _checksum(row)

    def contents(self, *, verify: bool = False) -> Contents:
        """Count the rows."""
        there = np.flatnonzero(self._table >= _HELD)
        corrupt = [index for index in there.tolist() if verify and not self.is_whole(index)]
        return Contents(
            len(there), len(there) * self.size, tuple(f"the row of sample {index} in {self._name}" for index in corrupt)
        )

    def tidy(self) -> bool:
        """Forget the rows that a process was writing when it was killed; return whether there were any."""
        begun = self._table == _BEGUN
        self._table[begun] = 0
        return bool(begun.any())

    def forget(self) -> None:
        """Take no row for being there any more."""
        self._table[:] = 0

    def remove(self) -> None:
        """Throw the rows away. Who has them open finds none there, and every place taken: it keeps no more in them."""
        folder = Path(self._name).parent
        there = int((self._table >= _HELD).sum())
        self._table[:] = _BEGUN
        for path in (folder / "rows", folder / "table"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something else there
            folder.rmdir()
        self._room.give_back(there * self.size)


class _File:
    """A file of a given length, made if it is not there; closed with the last reference to it."""

    def __init__(self, path: Path, size: int, *, holes: bool) -> None:
        self.number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        weakref.finalize(self, os.close, self.number)
        self.has_grown = os.fstat(self.number).st_size < size
        if self.has_grown:
            if not holes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.number, 0, size)
            os.ftruncate(self.number, size)

    def write(self, index: int, row: Array) -> None:
        """Write a row to its place."""
        data, place = row.data.cast("B"), index * row.nbytes
        while len(data):
            written = os.pwrite(self.number, data, place)
            data, place = data[written:], place + written


def _checksum(row: Array) -> int:
    return zlib.crc32(row.data)


def _untouched(size: int) -> mmap.mmap:
    """Map memory that takes up none until it is written to, however much it is."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    no_reserve = 0x4000 if sys.platform == "linux" else 0  # `mmap.MAP_NORESERVE` of Python 3.13
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
