"""Notices files that were replaced since they were read before, in memory that does not grow with the dataset."""

from __future__ import annotations

from asyncbatch._errors import FileChanged
from asyncbatch.readers._whole import Content, own_pages

__all__ = ["Identities"]

# 2¹⁸ files are remembered, in 4 MB that the system gives out only as they are used, so that each file new to it costs
# a page: name and mark lie side by side. Of more files than that some are forgotten, and a change of these goes
# unnoticed. A number in a memoryview is had in a third of NumPy's time.
_SLOTS = 2**18

_MADE_UP = 3  # files of which only the time changed while they were read: that is no writer, but the storage's way


class Identities:
    """Remembers size and time of change of files by a hash of their names; a newer file may push an older one out.

    Attributes:
        times_count: Whether times of change mean anything. Some FUSE daemons make up another one at every look.
    """

    def __init__(self) -> None:
        self._table = _zeros()
        self.times_count = True
        self._made_up = 0

    def close(self) -> None:
        """Remember nothing any more: cancelled tasks keep cycles, and megabytes must not wait for the collector."""
        self._table = memoryview(b"").cast("q")

    def only_the_time_changed(self) -> None:
        """Hear of a file whose time of change became another while it was read, twice, and its content did not."""
        self._made_up += 1
        if self._made_up >= _MADE_UP:
            self.times_count = False
            self._table = _zeros()

    def check(self, path: str, content: Content) -> None:
        """Remember a file, or compare it with what is remembered.

        Raises:
            FileChanged: It is another one than before.
        """
        table = self._table
        if not table:
            return  # closed, and a thread is late
        name = hash(path) or 1
        mark = hash((content.size, content.mtime if self.times_count else 0))
        place = 2 * (name % _SLOTS)
        known = table[place] == name
        was = table[place + 1]
        table[place] = name
        table[place + 1] = mark  # reported once: who goes on after that goes on with what is there now
        if known and was != mark:
            raise FileChanged(
                "was replaced since it was read before: its size or time of change differs; "
                "begin the iteration again if that was meant"
            )


def _zeros() -> memoryview[int]:
    return memoryview(own_pages(16 * _SLOTS)).cast("q")
