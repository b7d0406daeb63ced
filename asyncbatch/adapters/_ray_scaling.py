"""How many workers there should be, by how long the trainer waits."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

from asyncbatch.adapters._ray_team import Team

__all__ = ["Scaling"]

_INTERVAL = 3.0  # seconds between two looks: a worker takes about as long to start
_LONG = 0.05  # of the time waited: another worker is worth its cores
_SHORT = 0.01  # nothing that anybody could win back
_BUSY = 0.8  # of their time, workers that are left may be


class Scaling:
    """Looks from time to time, when a batch is taken, and adds workers or retires one.

    Args:
        team: The workers.
        least: How many there are at the least.
        most: At the most.
        waited: Returns for how many seconds the trainer has waited so far.
    """

    def __init__(self, team: Team, least: int, most: int, waited: Callable[[], float]) -> None:
        self._team = team
        self._least = least
        self._most = most
        self._waited = waited
        self._begin()

    def consider(self) -> None:
        """Look whether it is time, and whether the number is right."""
        now, members = perf_counter(), self._team.members
        if not all(member.is_up for member in members):
            self._begin()  # what is measured while some are starting says nothing
            return
        if now - self._since < _INTERVAL:
            return
        waiting = (self._waited() - self._waited_before) / (now - self._since)
        busy = (sum(member.busy for member in members) - self._busy_before) / (now - self._since)
        count = len(members)
        if waiting > _LONG and count < self._most:
            for place in self._free_places(wanted_workers(count, waiting, self._most) - count):
                self._team.add(place)
        elif waiting < _SHORT and count > self._least and busy < _BUSY * (count - 1):
            self._team.retire(members[-1])
        self._begin()

    def _free_places(self, count: int) -> list[int]:
        taken = {member.place for member in self._team.members}
        return [place for place in range(self._most) if place not in taken][:count]

    def _begin(self) -> None:
        self._since = perf_counter()
        self._waited_before = self._waited()
        self._busy_before = sum(member.busy for member in self._team.members)


def wanted_workers(count: int, waiting: float, most: int) -> int:
    """Return how many would do where so many leave the trainer waiting for that share of the time, above 0."""
    return min(most, max(count + 1, math.ceil(count / max(1e-3, 1 - waiting) - 0.5)))
