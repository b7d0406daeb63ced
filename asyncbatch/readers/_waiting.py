"""Reads that wait for their turn, and which of them one read brings together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from asyncbatch.readers._flight import Ask
from asyncbatch.readers._together import LONGEST, is_part, together

__all__ = ["WaitingReads"]

_Place = tuple[str, int]


@dataclass(slots=True, eq=False)
class _Entry:
    """One that waits; None when it was taken out of turn, with its place in the queue left behind."""

    ask: Ask | None


class WaitingReads:
    """A queue, known by place too: where each takes its turn alone, finding that out must cost next to nothing.

    To look through all that wait for those beside one took 100 µs of a thousand. Those that are urgent go before the
    others, and among themselves in their order, too. Whoever uses it holds a lock.
    """

    def __init__(self) -> None:
        self._urgent: deque[_Entry] = deque()
        self._order: deque[_Entry] = deque()
        self._beside: dict[_Place, list[_Entry]] = {}  # parts of files, by stretches of as much as one read brings
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ask]:
        return (entry.ask for entry in chain(self._urgent, self._order) if entry.ask is not None)

    def append(self, ask: Ask, *, urgent: bool = False) -> None:
        """Let a read wait behind the others, or the others that are urgent."""
        (self._urgent if urgent else self._order).append(self._entered(ask))

    def put_back(self, asks: Iterable[Ask]) -> None:
        """Let reads that had their turn wait before all others, in their order."""
        self._urgent.extendleft([self._entered(ask) for ask in asks][::-1])

    def take(self) -> list[Ask]:
        """Return the one whose turn it is, and those that one read brings with it; in their order, or none."""
        while queue := self._urgent or self._order:
            ask = self._leave(queue.popleft())
            if ask is None or ask.answer.done():  # done: cancelled, for the iteration ends
                continue
            near = {id(entry.ask): entry for entry in self._near(ask)}
            taken = together(ask, [one.ask for one in near.values() if one.ask and not one.ask.answer.done()])
            for one in taken:
                if one is not ask:
                    self._leave(near[id(one)])
            return taken
        return []

    def clear(self) -> None:
        """Let nobody wait any more."""
        self._urgent.clear()
        self._order.clear()
        self._beside.clear()
        self._count = 0

    def _near(self, ask: Ask) -> Iterator[_Entry]:
        if self._beside and is_part(ask.part):
            path, stretch = _place(ask)
            for other in (stretch - 1, stretch, stretch + 1):
                yield from self._beside.get((path, other), ())

    def _entered(self, ask: Ask) -> _Entry:
        entry = _Entry(ask)
        self._count += 1
        if is_part(ask.part):
            self._beside.setdefault(_place(ask), []).append(entry)
        return entry

    def _leave(self, entry: _Entry) -> Ask | None:
        ask, entry.ask = entry.ask, None
        if ask is not None:
            self._count -= 1
            if is_part(ask.part):
                self._beside[_place(ask)].remove(entry)
                if not self._beside[_place(ask)]:
                    del self._beside[_place(ask)]
        return ask


def _place(ask: Ask) -> _Place:
    return ask.part.path, ask.part.offset // LONGEST
