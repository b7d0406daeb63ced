"""Bytes in memory, by name, as `Store` has them on a disk."""

from __future__ import annotations

from asyncbatch.readers._contents import Contents

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
        self.size = 0
        self.is_open_for_more = True

    def get(self, name: str) -> bytes | None:
        """Return an entry's bytes; None if it is not there."""
        return self._entries.get(name)

    def put(self, name: str, data: bytes) -> bool:
        """Keep bytes, if there is room; return whether they are kept."""
        self.is_open_for_more = self.is_open_for_more and self.size + len(data) <= self._limit
        if self.is_open_for_more and name not in self._entries:
            self._entries[name] = data
            self.size += len(data)
        return name in self._entries

    def claim(self, name: str) -> None:
        """Nobody else fetches for it."""

    def release(self, name: str) -> None:
        """Nobody else fetches for it."""

    def held(self, *, verify: bool = False) -> Contents:
        """Count what it holds; memory is not looked through for damage."""
        return Contents(len(self._entries), self.size)

    def clear(self) -> Contents:
        """Throw everything away; return what there was."""
        before = self.held()
        self._entries.clear()
        self.size, self.is_open_for_more = 0, True
        return before

    def close(self) -> None:
        """Keep everything: the next epoch wants it."""
