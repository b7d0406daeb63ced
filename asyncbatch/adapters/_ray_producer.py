"""One iteration of a `RayLoader`: batches are asked of workers, and leave in order as if they had been made here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Self

from ray.exceptions import RaySystemError, RayTaskError

from asyncbatch import Hook, LoaderClosed, Stats
from asyncbatch.adapters._ray_errors import LOST, PASSING, WorkersLost, cause_of, describe
from asyncbatch.adapters._ray_scaling import Scaling
from asyncbatch.adapters._ray_team import Member, Team, Workers
from asyncbatch.adapters._ray_worker import Reply, clock
from asyncbatch.making import Coming, Dooms, MadeBatch

__all__ = ["RayProducer", "Settings"]

_MOST_DEATHS = 5  # of workers that were making a batch: more are no chance, and it would end all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What iterations of a loader have in common.

    Attributes:
        workers: Where worker processes come from.
        least: How many there are at the least.
        most: At the most.
        ahead: How many batches each is asked for at once.
        in_flight: Budget in bytes for batches that were asked for and not taken.
        batch_bytes: What a batch takes, as far as it is known beforehand.
        in_order: Whether batches leave in the order of the plan, or as they come.
        grace: For how many seconds no worker may be there.
        hooks: Told about every span.
        stats: By worker, what each did so far; kept up to date here.
        lanes: By stage, worker and the lane that it has there: the lane in which a span is told here, likewise.
        places: Those of workers that are wanted now, likewise.
        known: Those of which a worker was there once, likewise.
        waited: Returns for how many seconds the caller has waited so far.
    """

    workers: Workers
    least: int
    most: int
    ahead: int
    in_flight: int
    batch_bytes: int | None
    in_order: bool
    grace: float
    hooks: Sequence[Hook]
    stats: dict[str, Stats]
    lanes: dict[str, dict[tuple[int, int], int]]
    places: set[int]
    known: set[int]
    waited: Callable[[], float]


class RayProducer:
    """A `Producer`.

    Args:
        settings: What it shares with other iterations.
        client: What the workers know the loader by.
        iteration: Its number among the loader's.
        payload: A reference to the loader.
        coming: Returns the numbers of the next batches.
        dooms: Whether the failures of a batch end the epoch.
        steps: Batches an epoch.
        loop: The event loop of the iteration.
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        iteration: int,
        payload: Any,
        coming: Coming,
        dooms: Dooms,
        steps: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._settings = settings
        self._ids = client, iteration
        self._payload = payload
        self._coming = coming
        self._dooms = dooms
        self._steps = steps
        self._loop = loop
        self._batch_bytes = settings.batch_bytes
        self._under_way = 0  # batches that were asked for and not taken
        self._freed = asyncio.Event()
        self._leaving: asyncio.Queue[asyncio.Task[MadeBatch] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[MadeBatch]] = set()
        self._doomed = False
        self._stopped = False
        self._crash: BaseException | None = None
        self._scaling: Scaling | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def credit(self) -> None:
        """A batch was taken, or dropped as void: another may be asked for. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the iteration is over
            self._loop.call_soon_threadsafe(self._taken)

    def _taken(self) -> None:
        self._under_way -= 1
        self._freed.set()
        if self._scaling is not None:
            self._scaling.consider()

    def stop(self) -> None:
        """End the iteration early."""
        self._stopped = True
        self._leaving.put_nowait(None)
        for task in self._tasks:
            task.cancel()

    async def batches(self) -> AsyncGenerator[MadeBatch, None]:
        """Yield the batches until the last one, or until `stop`.

        Raises:
            SourceError: A worker cannot reach the samples.
            WorkersLost: No worker was there for too long.
        """
        if self._stopped:
            return
        settings = self._settings
        team = Team(
            settings.workers, self._open_on, settings.ahead, settings.grace, self._fail, self._gone,
            settings.places, settings.known,
        )  # fmt: skip
        if settings.most > settings.least:
            self._scaling = Scaling(team, settings.least, settings.most, settings.waited)
        for place in sorted(settings.places):
            team.add(place)
        asking = asyncio.create_task(self._ask(team))
        try:
            while (task := await self._leaving.get()) is not None and not self._stopped:
                try:
                    made = await task
                except asyncio.CancelledError:  # it was cancelled by `stop` or `_fail`, and this is over
                    break
                del task
                yield made
                del made  # a batch that the caller lets go of is not kept until the next one comes
            if self._crash is not None:
                raise self._crash
        finally:
            await self._end(team, asking)

    async def _end(self, team: Team, asking: asyncio.Task[None]) -> None:
        tasks = [asking, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for member in team.members:
            if member.is_up:
                member.actor.close.remote(*self._ids)
        await team.aclose()
        while not self._leaving.empty():
            self._leaving.get_nowait()

    async def _ask(self, team: Team) -> None:
        """Ask for one batch after the other, as there is room for them."""
        try:
            for place in count():
                while not self._has_room(team):
                    self._freed.clear()
                    await self._freed.wait()
                numbers = () if self._doomed else await self._coming(1)
                if not numbers:
                    break
                self._under_way += 1
                task = asyncio.create_task(self._make(team, numbers[0], place))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                if self._settings.in_order:
                    self._leaving.put_nowait(task)
                else:
                    task.add_done_callback(self._leaving.put_nowait)
            if self._tasks and not self._settings.in_order:
                await asyncio.wait(self._tasks)
            self._leaving.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - of the sampler, or a mistake of ours
            self._fail(error)

    def _has_room(self, team: Team) -> bool:
        """Whether one more batch may be asked for: twice what all workers work at, so that quick ones may go ahead."""
        workers = len(team.members)
        if self._batch_bytes is None:
            return self._under_way < workers
        most = min(2 * self._settings.ahead * workers, self._settings.in_flight // max(1, self._batch_bytes))
        return self._under_way < max(1, most)

    async def _make(self, team: Team, number: int, place: int) -> MadeBatch:
        """Have a batch made, by another worker where one is lost."""
        deaths = 0
        while True:
            member = await team.acquire(place)
            life = member.lives
            try:
                return self._made(member, await member.actor.make.remote(*self._ids, number, traced=self._is_traced))
            except LOST as error:
                team.lose(member, life, error)
                deaths += not isinstance(error, PASSING)
                if deaths == _MOST_DEATHS:
                    self._fail(self._fatal(number, error))
                    raise asyncio.CancelledError from None
            except (RayTaskError, RaySystemError) as error:
                cause = cause_of(error)
                if not isinstance(cause, LoaderClosed):
                    self._fail(cause)
                    raise asyncio.CancelledError from None
                team.lose(member, life, cause)  # it is there, and has no such iteration: it is begun anew
            finally:
                team.release(member)

    def _fatal(self, number: int, error: BaseException) -> WorkersLost:
        epoch, step = divmod(number, self._steps)
        return WorkersLost(
            f"{_MOST_DEATHS} workers were lost one after another while they made batch {step} of epoch {epoch}: "
            f"something in it may kill them, or they have too little memory; the last was lost to {describe(error)}"
        )

    @property
    def _is_traced(self) -> bool:
        return bool(self._settings.hooks)

    def _made(self, member: Member, reply: Reply) -> MadeBatch:
        """Take in what a worker replied, by the clock of this process."""
        assert member.opened is not None  # noqa: S101 - it was asked
        behind = member.opened.clock - clock()
        made = reply.made.later(behind)
        self._settings.stats[member.opened.name] = reply.stats
        for span in reply.spans:
            lanes = self._settings.lanes.setdefault(span.stage, {})
            lane = lanes.setdefault((member.place, span.lane), len(lanes))  # without gaps: a picture has a row for each
            moved = replace(span, start=span.start + behind, stop=span.stop + behind, lane=lane)
            for hook in self._settings.hooks:
                hook.record(moved)
        if self._batch_bytes is None and len(made.rows):
            self._batch_bytes = sum(row.nbytes for row in made.rows)
            self._freed.set()
        too_many = self._dooms(made.epoch, len(made.failures))
        self._doomed = self._doomed or too_many or made.error is not None
        return made

    def _gone(self, member: Member) -> None:
        """Keep what a worker did, and nothing of what it has."""
        stats, name = self._settings.stats, member.opened.name if member.opened is not None else ""
        if name in stats:
            stats[name] = stats[name].at_its_end()

    def _open_on(self, actor: Any) -> Any:
        return actor.open.remote(*self._ids, [self._payload])

    def _fail(self, error: BaseException) -> None:
        """End the iteration for an error that is no batch's."""
        self._crash = self._crash or error
        self._leaving.put_nowait(None)
        for task in self._tasks:
            task.cancel()
