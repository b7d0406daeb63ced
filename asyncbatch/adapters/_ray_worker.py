"""What runs in a worker process: the ordinary loader, which makes the batches that it is asked for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ray

from asyncbatch import Loader, LoaderClosed, Source, SourceError, Span, Stats
from asyncbatch.making import MadeBatch, Maker

_IDLE = 900.0  # seconds without a batch: a validation between two epochs may take minutes

__all__ = ["Opened", "Payload", "Reply", "Roster", "Worker", "clock"]


@dataclass(frozen=True, slots=True)
class Payload:
    """A loader as it travels.

    Attributes:
        source: The source, which is listed once and not by each worker.
        options: What else `Loader` is given.
        folder: Which folder relative paths are meant from.
    """

    source: Source
    options: Mapping[str, Any]
    folder: str


class Opened(NamedTuple):
    """What a worker says of itself.

    Attributes:
        name: For people: its process and its node.
        clock: By how many seconds the time of day is ahead of `time.perf_counter()` there.
    """

    name: str
    clock: float


class Reply(NamedTuple):
    """A batch, and what the worker did so far.

    Attributes:
        made: The batch, by the worker's clock.
        stats: Of the worker's loader, all its iterations.
        spans: What was timed since the last reply, if that was asked for, by the worker's clock.
    """

    made: MadeBatch
    stats: Stats
    spans: Sequence[Span]


class Worker:
    """An actor. It serves several loaders at once, such as those of the ranks of a training, each by its own name."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._opening = asyncio.Lock()

    async def name(self) -> str:
        """Return what it is called."""
        return _name()

    async def open(self, client: str, iteration: int, payload: Sequence[ray.ObjectRef[Payload]]) -> Opened:
        """Begin an iteration of a loader; the one before it ends.

        Args:
            client: The loader's name.
            iteration: Its number; a later one has a greater number.
            payload: One reference to the loader, which is looked at the first time alone.

        Raises:
            SourceError: Its samples cannot be read on this node.
        """
        async with self._opening:
            self._forget_idle()
            if client not in self._clients:
                opened = _Client(await payload[0])
                try:
                    await opened.check()
                except SourceError as error:
                    raise SourceError(
                        f"on {_name()} {error}. Every node must reach the samples by the same paths: mount the data "
                        "there as it is here, or have workers on other nodes only, by placement="
                    ) from None
                self._clients[client] = opened
            if iteration < self._clients[client].iteration:  # calls may overtake each other
                raise LoaderClosed(f"iteration {iteration} was ended by a later one")
            self._clients[client].begin(iteration)
        return Opened(_name(), clock())

    async def make(self, client: str, iteration: int, number: int, *, traced: bool) -> Reply:
        """Make a batch by its number through all epochs.

        Args:
            client: The loader's name.
            iteration: Its number; a later one has a greater number.
            number: The batch's number.
            traced: Whether spans are wanted.

        Raises:
            LoaderClosed: That iteration has ended.
        """
        found = self._clients.get(client)
        if found is None or found.iteration != iteration:
            raise LoaderClosed(f"the iteration that batch {number} was for has ended")
        return await found.make(number, traced=traced)

    async def close(self, client: str, iteration: int) -> None:
        """End an iteration of a loader."""
        found = self._clients.get(client)
        if found is not None and found.iteration == iteration:
            found.end()

    async def forget(self, client: str) -> None:
        """End all there is for a loader."""
        async with self._opening:
            found = self._clients.pop(client, None)
        if found is not None:
            found.end()
            await found.loader.aclose()

    def _forget_idle(self) -> None:
        """Let go of loaders whose process is gone, as far as anybody can tell; one that is there opens it again."""
        for client, found in list(self._clients.items()):
            if time.monotonic() - found.used > _IDLE and not found.under_way:
                found.end()
                del self._clients[client]


class Roster:
    """An actor that starts the workers of a pool, so that there is one for each place whoever asks, and ends with them.

    Args:
        options: Of Ray, for each.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._actors: dict[int, Any] = {}

    def actor(self, place: int, dead: Any = None) -> Any:
        """Return the worker of a place, another one if it is still the one that is known to be dead."""
        current = self._actors.get(place)
        if current is None or current == dead:
            remote: Any = ray.remote(Worker)
            current = self._actors[place] = remote.options(**self._options).remote()
        return current

    def stop(self, place: int) -> None:
        """End the worker of a place."""
        if (actor := self._actors.pop(place, None)) is not None:
            ray.kill(actor)

    def forget(self, client: str) -> None:
        """Have all workers let go of a loader."""
        for actor in self._actors.values():
            actor.forget.remote(client)


class _Client:
    """What a worker has for one loader elsewhere."""

    def __init__(self, payload: Payload) -> None:
        with suppress(OSError):  # it need not be there on every machine, if the paths are absolute
            os.chdir(payload.folder)
        self._spans = _Spans()
        self.loader = Loader(payload.source, **payload.options, hooks=[self._spans])
        self.iteration = -1
        self.used = time.monotonic()
        self.under_way = 0
        self._maker: Maker | None = None

    async def check(self) -> None:
        """See that samples can be read here, as `Maker.check` does."""
        maker = self.loader.maker()
        try:
            await maker.check()
        finally:
            maker.close()

    def begin(self, iteration: int) -> None:
        self.end()
        self.iteration, self._maker = iteration, self.loader.maker()

    async def make(self, number: int, *, traced: bool) -> Reply:
        if self._maker is None:
            raise LoaderClosed(f"the iteration that batch {number} was for has ended")
        self._spans.wanted = traced
        self.under_way += 1
        try:
            made = await self._maker.make(number)
        finally:
            self.under_way -= 1
            self.used = time.monotonic()
        return Reply(made, replace(self.loader.stats(), errors=()), self._spans.taken())

    def end(self) -> None:
        if self._maker is not None:
            self._maker.close()
            self._maker = None


class _Spans:
    """Keeps spans until the next reply."""

    def __init__(self) -> None:
        self.wanted = False
        self._kept: list[Span] = []

    def record(self, span: Span, /) -> None:
        if self.wanted:
            self._kept.append(span)

    def taken(self) -> Sequence[Span]:
        kept, self._kept = self._kept, []
        return kept


def clock() -> float:
    """Return by how many seconds the time of day is ahead of `time.perf_counter()` in this process."""
    return time.time() - time.perf_counter()


def _name() -> str:
    node = ray.get_runtime_context().get_node_id()
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"worker {os.getpid()} on node {address} ({node[:8]})"
