"""Bytes in memory, by name, as `Store` has them on a disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

from asyncbatch.readers._contents import Contents
from asyncbatch.readers._rows import Rows

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps what comes first, up to a limit; belongs to one event loop at a time.

    Args:
        limit: How many bytes it may hold.

    Attributes:
        size: How many it holds.
        is_open_for_more: Whether entries are added still.
        corrupt: None ever is; a `Store` has some.
    """

    corrupt = 0

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[str, bytes] = {}
        self._rows: dict[str, Rows] = {}
        self._guard = threading.Lock()  # of the size, among the threads that keep rows
        self._owner = os.getpid()
        self.size = 0
        self.is_open_for_more = True

    def get(self, name: str) -> bytes | None:
        """Return an entry's bytes; None if it is not there."""
        return self._entries.get(name)

    def put(self, name: str, data: bytes) -> bool:
        """Keep bytes, if there is room; return whether they are kept."""
        with self.guarded():
            if name not in self._entries and self.count(len(data)):
                self._entries[name] = data
        return name in self._entries

    def claim(self, name: str) -> None:
        """Nobody else fetches for it."""

    def release(self, name: str) -> None:
        """Nobody else fetches for it."""

    def held(self, *, verify: bool = False) -> Contents:
        """Count what it holds; memory is not looked through for damage."""
        rows = [rows.contents() for rows in self._rows.values()]
        return Contents(len(self._entries) + sum(held.entries for held in rows), self.size)

    def clear(self) -> Contents:
        """Throw everything away; return what there was."""
        before = self.held()
        self._entries.clear()
        for rows in self._rows.values():  # which loaders may be using
            rows.forget()
        self.size, self.is_open_for_more = 0, True
        return before

    def rows(self, name: str, count: int, shape: tuple[int, ...]) -> Rows:
        """Return the rows that are kept under a name, for `count` samples of one shape; none of them at first."""
        if name not in self._rows:
            self._rows.setdefault(name, Rows.in_memory(self, count, shape))  # another thread may be as far
        return self._rows[name]

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Keep other threads from counting."""
        if self._owner != os.getpid():  # a fork has no thread that would ever let go of it
            self._guard, self._owner = threading.Lock(), os.getpid()
        with self._guard:
            yield

    def count(self, size: int) -> bool:
        """Count bytes that are to come, guarded; False, and none counted, if they do not fit."""
        self.is_open_for_more = self.is_open_for_more and self.size + size <= self._limit
        self.size += size * self.is_open_for_more
        return self.is_open_for_more

    def give_back(self, size: int) -> None:
        """Count bytes no longer."""
        with self.guarded():
            self.size -= size

    def failed(self, size: int, error: OSError) -> None:
        """Never happens: memory is not written by calls."""

    def close(self) -> None:
        """Keep everything: the next epoch wants it."""
