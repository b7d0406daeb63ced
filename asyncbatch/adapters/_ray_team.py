"""The workers of one iteration: which of them are there, and who makes the next batch."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Protocol

from ray.exceptions import RaySystemError, RayTaskError

from asyncbatch.adapters._ray_errors import LOST, PASSING, WorkersLost, cause_of, describe
from asyncbatch.adapters._ray_worker import Opened

__all__ = ["Member", "Team", "Workers"]

_PAUSE = 1.0  # seconds before a worker is started anew in the place of one that did not come up

_logger = logging.getLogger("asyncbatch")


class Workers(Protocol):
    """Where worker processes come from: actors of Ray by their place. Its methods may block."""

    def start(self, place: int, dead: Any = None) -> Any:
        """Return the actor of a place; another one, if it still is the one that is known to be dead."""

    def stop(self, place: int) -> None:
        """End the actor of a place."""


class Member:
    """A worker, through all processes that come one after another in its place.

    Attributes:
        place: Its number.
        opened: What it last said of itself; None before it was there once.
        actor: The process of now.
        under_way: How many batches it is making.
        lives: How often it came up.
        is_up: Whether it can be asked.
        retires: Whether it is asked for nothing more.
        busy: For how many seconds it had a batch under way.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.opened: Opened | None = None
        self.actor: Any = None
        self.under_way = 0
        self.lives = 0
        self.is_up = False
        self.retires = False
        self.gone = asyncio.Event()
        self._busy = 0.0
        self._since = 0.0

    @property
    def busy(self) -> float:
        return self._busy + (perf_counter() - self._since if self.under_way else 0.0)

    def begin(self) -> None:
        """Hear that it was asked for a batch."""
        if not self.under_way:
            self._since = perf_counter()
        self.under_way += 1

    def end(self) -> None:
        """Hear that it made one, or will not."""
        self.under_way -= 1
        if not self.under_way:
            self._busy += perf_counter() - self._since


class Team:
    """Belongs to the event loop of the iteration.

    Args:
        workers: Where their processes come from.
        open_on: Called with an actor, it begins the iteration there, and returns what can be awaited for an `Opened`.
        ahead: How many batches a worker is asked for at once.
        grace: For how many seconds no worker may be there.
        on_crash: Called with an error that ends the iteration.
        on_gone: Called with a worker that works no more.
        places: Kept up to date: those of workers that are wanted.
        known: Likewise: places of which a worker was there in this or an earlier iteration, so that what comes up
            there next is a replacement. What one of these cannot do is no error, as others may.

    Attributes:
        members: The workers.
    """

    def __init__(
        self,
        workers: Workers,
        open_on: Callable[[Any], Awaitable[Opened]],
        ahead: int,
        grace: float,
        on_crash: Callable[[BaseException], None],
        on_gone: Callable[[Member], None],
        places: set[int],
        known: set[int],
    ) -> None:
        self._workers = workers
        self._open_on = open_on
        self._ahead = ahead
        self._grace = grace
        self._on_crash = on_crash
        self._on_gone = on_gone
        self.places = places
        self._known = known
        self.members: list[Member] = []
        self._keepers: dict[Member, asyncio.Task[None]] = {}
        self._waiting: list[tuple[int, asyncio.Future[Member]]] = []  # a heap: the batch that is due first goes first
        self._blocking = ThreadPoolExecutor(1, "asyncbatch-ray")  # what would block the loop
        self._alone: asyncio.TimerHandle | None = None
        self._why: BaseException | None = None  # the last worker was lost

    def add(self, place: int) -> None:
        """Have one more worker."""
        member = Member(place)
        self.members.append(member)
        self.places.add(place)
        self._keepers[member] = asyncio.create_task(self._keep(member))
        self._changed()

    def retire(self, member: Member) -> None:
        """Have one worker less, once it has made what it was asked for."""
        member.retires = True
        self.places.discard(member.place)
        self._changed()
        self._end_if_idle(member)

    async def acquire(self, place: int) -> Member:
        """Wait for a worker that has room for one more batch, the one with the fewest.

        Args:
            place: The batch's place in the iteration: those that are due first are made first.
        """
        waiter: asyncio.Future[Member] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (place, waiter))
        self._share_out()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result())
            raise

    def release(self, member: Member) -> None:
        """Hear that a worker is done with a batch."""
        member.end()
        self._share_out()
        self._end_if_idle(member)

    def lose(self, member: Member, life: int, error: BaseException) -> None:
        """Hear that a worker did not answer in one of its lives; if it has another already, it is not lost again."""
        if life != member.lives or not member.is_up:
            return
        _logger.warning("%s is gone: %s; its batches are made by others", _name(member), describe(error))
        self._why = error
        self._on_gone(member)
        member.is_up = False
        member.gone.set()
        self._changed()

    async def aclose(self) -> None:
        """Let go of the workers; their processes stay."""
        if self._alone is not None:
            self._alone.cancel()
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        self._blocking.shutdown(wait=False, cancel_futures=True)

    async def _keep(self, member: Member) -> None:
        try:
            while True:
                if await self._came_up(member):
                    await member.gone.wait()
                else:
                    await asyncio.sleep(_PAUSE)
        except Exception as error:  # noqa: BLE001 - ends the iteration, in words or as a mistake of ours
            self._on_crash(error)

    async def _came_up(self, member: Member) -> bool:
        member.gone.clear()
        try:
            member.actor = await self._in_thread(self._workers.start, member.place)
            try:
                member.opened = await self._open_on(member.actor)
            except LOST as error:
                if isinstance(error, PASSING):
                    raise
                member.actor = await self._in_thread(self._workers.start, member.place, member.actor)
                member.opened = await self._open_on(member.actor)
        except (RayTaskError, RaySystemError) as error:
            cause = cause_of(error)
            if member.place not in self._known:  # at the start it is for the user to mend
                raise cause from None
            self._why = cause
            _logger.warning("a worker cannot take the place of one that is gone, and is asked again: %s", cause)
            return False
        except LOST as error:
            self._why = error
            return False
        self._known.add(member.place)
        member.lives += 1
        member.is_up = True
        self._changed()
        return True

    async def _in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._blocking, call, *args)

    def _changed(self) -> None:
        if any(member.is_up and not member.retires for member in self.members):
            if self._alone is not None:
                self._alone.cancel()
                self._alone = None
            self._share_out()
        elif self._alone is None:
            self._alone = asyncio.get_running_loop().call_later(self._grace, self._give_up)

    def _give_up(self) -> None:
        were_there = any(member.opened for member in self.members)
        what = "was left" if were_there else "came up"
        why = "Ray is starting one, or has no room for it"
        if self._why is not None:
            why = f"the last was lost to {describe(self._why)}"
        error = WorkersLost(
            f"no worker {what} for {self._grace:g} s: {why}. `ray status` says what the cluster has; fewer "
            "cpus_per_worker= find room sooner, and a longer grace= waits for nodes that are still to come"
        )
        error.__cause__ = self._why
        self._on_crash(error)

    def _share_out(self) -> None:
        while self._waiting and (member := self._freest()) is not None:
            _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():  # else it was cancelled
                member.begin()
                waiter.set_result(member)

    def _freest(self) -> Member | None:
        free = [one for one in self.members if one.is_up and not one.retires and one.under_way < self._ahead]
        return min(free, key=lambda member: member.under_way, default=None)

    def _end_if_idle(self, member: Member) -> None:
        if member.retires and not member.under_way and (keeper := self._keepers.pop(member, None)) is not None:
            keeper.cancel()
            self.members.remove(member)
            self._on_gone(member)
            self._blocking.submit(self._workers.stop, member.place)


def _name(member: Member) -> str:
    return f"worker {member.place}" if member.opened is None else member.opened.name
