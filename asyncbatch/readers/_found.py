"""What a storage was found to be, from one iteration to the next.

An epoch that began with eight reads at once, and found anew that the mount takes a hundred, would lose a second each
time. It is lent to one iteration at a time, since it belongs to that one's event loop; another that begins meanwhile
finds out for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from asyncbatch.readers._gate import Gate
from asyncbatch.readers._latency import Latencies
from asyncbatch.readers._tuning import Tuner

__all__ = ["Findings", "Found"]


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one storage.

    Attributes:
        latencies: How long its reads take.
        tuner: How many reads it is given at once.
        gate: Whether it answers at once.
    """

    latencies: Latencies
    tuner: Tuner
    gate: Gate


class Findings:
    """What is known of the storages of one reader."""

    def __reduce__(self) -> tuple[type[Findings], tuple[()]]:
        return Findings, ()  # a copy, such as another process has, finds out for itself

    def __init__(self) -> None:
        self._by_root: dict[str, Found] = {}

    def borrow(self, root: str, concurrency: int | None, *, in_groups: bool = True) -> Found:
        """Take what is known of a storage, for an iteration that begins.

        Args:
            root: Where it is mounted.
            concurrency: How many reads at once it is given if nothing is known; None finds it.
            in_groups: Whether a thread may read several of its files in one go.
        """
        found = self._by_root.pop(root, None)  # in one step: iterations of other threads ask, too
        if found is None:
            return Found(Latencies(), Tuner(concurrency, in_groups=in_groups), Gate())
        found.tuner.begin_anew()
        return found

    def give_back(self, root: str, found: Found) -> None:
        """Keep what is known, for the next iteration."""
        self._by_root[root] = found
