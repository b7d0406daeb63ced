"""The same batches, made by worker processes of a Ray cluster: for when one machine cannot decode fast enough.

Ray starts the processes, places them on nodes, finds out when one dies and carries the batches; which batch holds what
is the plan's, so any worker can make any batch, and a lost one is made again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from asyncbatch import ConfigError, Loader, LoaderClosed, Source, Stats
from asyncbatch.adapters._missing import missing
from asyncbatch.making import Coming, Dooms, Producer, require_seconds, require_whole, size_in_bytes

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise missing("ray", "pip install 'asyncbatch[ray]'", error) from error

from asyncbatch.adapters._ray_errors import WorkersLost
from asyncbatch.adapters._ray_producer import RayProducer, Settings
from asyncbatch.adapters._ray_worker import Payload, Roster

__all__ = ["RayLoader", "RayPool", "WorkersLost"]

_MANY_CALLS = 10_000  # that a worker may have under way: batches wait for their samples there


class RayPool:
    """Worker processes for several loaders: for all ranks of a training, or for training and validation.

    It can be sent to other processes of the same job, such as the ranks of Ray Train. The workers end when the pool is
    closed, or when the process that made it ends.

    Args:
        workers: How many.
        cpus_per_worker: Cores that Ray sets aside for each, and the threads that each decodes with.
        placement: Where they run: "SPREAD" over the nodes, which is the default since nodes have cores and network of
            their own, "DEFAULT" wherever Ray packs them, or a scheduling strategy of `ray.util.scheduling_strategies`.
        at_first: How many of them start now. Default None: all of them.

    Attributes:
        workers: How many.
        cpus_per_worker: As above.

    Raises:
        ConfigError: An argument cannot be used.
    """

    def __init__(
        self,
        workers: int,
        *,
        cpus_per_worker: float = 1,
        placement: Any = "SPREAD",
        at_first: int | None = None,
    ) -> None:
        self.workers = require_whole("workers", workers, least=1, example=4)
        require_seconds("cpus_per_worker", cpus_per_worker, example=1)
        self.cpus_per_worker = float(cpus_per_worker)
        at_first = self.workers if at_first is None else require_whole("at_first", at_first, least=0, example=1)
        if placement is None or (isinstance(placement, str) and placement not in ("SPREAD", "DEFAULT")):
            raise ConfigError(
                f'placement must be "SPREAD", "DEFAULT" or a scheduling strategy of Ray, got {placement!r}; write '
                'placement="SPREAD"'
            )
        if not ray.is_initialized():
            ray.init()
        options = {
            "num_cpus": self.cpus_per_worker,
            "max_concurrency": _MANY_CALLS,
            "max_restarts": 0,  # another takes its place, on whatever node there is
            "scheduling_strategy": placement,
        }
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        remote: Any = ray.remote(Roster)
        self._roster = remote.options(num_cpus=0, scheduling_strategy=here).remote(options)
        self._is_closed = False
        for place in range(min(at_first, self.workers)):
            self._roster.actor.remote(place)  # they take seconds to come up, and are wanted soon

    def __repr__(self) -> str:
        return f"RayPool({self.workers}, cpus_per_worker={self.cpus_per_worker:g})"

    def start(self, place: int, dead: Any = None) -> Any:
        """Return the actor of a place, which starts where it is not there yet; blocks.

        Args:
            place: Its number.
            dead: An actor of that place that has died: another is started, if nobody else has done so yet.

        Raises:
            LoaderClosed: The pool was closed.
        """
        if self._is_closed:
            raise LoaderClosed("the pool was closed; make a new one: pool = RayPool(…)")
        return ray.get(self._roster.actor.remote(place, dead))

    def stop(self, place: int) -> None:
        """End the actor of a place."""
        if not self._is_closed and ray.is_initialized():
            self._roster.stop.remote(place)

    def forget(self, client: str) -> None:
        """Have the workers let go of a loader that is closed."""
        if not self._is_closed:
            self._roster.forget.remote(client)

    def close(self) -> None:
        """End all workers, whoever else uses them."""
        self._is_closed = True
        if ray.is_initialized():
            ray.kill(self._roster)  # whose they are


class RayLoader(Loader):
    """A `Loader` whose batches are made by the worker processes of a Ray cluster.

    It yields the same batches in the same order as `Loader` with the same arguments, whatever the number of workers and
    whatever becomes of them, and is used in the same way, by the other adapters too. Its arrays lie in the object store
    of Ray, are not copied and cannot be written to: write `images = images.copy()` where you change them in place.

    A worker that dies costs time: its batches are made again by others, and another worker takes its place. Every node
    must reach the samples by the same paths, and have asyncbatch and your code installed, at the same versions.

    Args:
        source: As for `Loader`. It is listed here alone, and sent to the workers.
        workers: How many worker processes; (least, most) to have as many as keep the trainer from waiting; or a
            `RayPool` that is shared with other loaders, which has `cpus_per_worker` and `placement` of its own.
        cpus_per_worker: Cores that Ray sets aside for each worker, and the threads that each decodes with.
        placement: Where they run; see `RayPool`.
        prefetch: Batches that each worker is asked for at once: it reads all of them at once, and decodes them one
            after the other. 8 of 32 pictures keep 256 reads under way, which hides 100 ms of latency.
        in_flight: Budget for batches that were asked for and not yet taken, in bytes or as "1GB", within the object
            store; and never more than twice `prefetch` for each worker.
        grace: For how many seconds there may be no worker at all before that is an error, `WorkersLost`. The default
            gives a cluster a minute to start one.
        options: All else that `Loader` takes. `decode_threads` is by default `cpus_per_worker`; `reader`, `decoder` and
            `sampler` are sent to the workers, and `hooks` stay here. A `cache` is one on each node.

    Attributes:
        pool: The worker processes.

    Raises:
        ConfigError: An argument cannot be used.
        SourceError: As `Loader`; and, from the first iteration, when a node cannot reach the samples.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Source,
        *,
        workers: int | tuple[int, int] | RayPool = 2,
        cpus_per_worker: float = 1,
        placement: Any = "SPREAD",
        prefetch: int = 8,
        in_flight: int | str = "1GB",
        grace: float = 60.0,
        **options: Any,
    ) -> None:
        self._ahead = require_whole("prefetch", prefetch, least=1, example=8)
        self._in_flight = size_in_bytes(in_flight, "in_flight")
        require_seconds("grace", grace, example=60)
        self._grace = float(grace)
        self._least, self._most = _range(workers)
        super().__init__(source, **options)
        self._owns_pool = not isinstance(workers, RayPool)
        self.pool = (
            workers
            if isinstance(workers, RayPool)
            else RayPool(self._most, cpus_per_worker=cpus_per_worker, placement=placement, at_first=self._least)
        )
        here = {name: options[name] for name in options if name not in ("hooks", "in_order", "shard")}
        self._options = {
            **here,
            "decode_threads": _threads(options.get("decode_threads", "auto"), self.pool.cpus_per_worker),
            "shard": (self._stages.plan.rank, self._stages.plan.world),  # "auto" would ask the worker's environment
        }
        self._client = uuid.uuid4().hex
        self._iterations = count()
        self._payload: Any = None
        self._worker_stats: dict[str, Stats] = {}
        self._lanes: dict[str, dict[tuple[int, int], int]] = {}
        self._places = set(range(self._least))  # of workers that are wanted
        self._known: set[int] = set()  # places of which a worker was there once

    def stats(self) -> Stats:
        """Return what was delivered here, and what all workers did for it together; see `Stats.with_workers`."""
        return super().stats().with_workers(list(self._worker_stats.values()))

    def worker_stats(self) -> Mapping[str, Stats]:
        """Return what each worker did, those that are gone too, as far as they told with their last batch."""
        return dict(self._worker_stats)

    def close(self) -> None:
        """End all background work, and the workers if they are this loader's own."""
        super().close()
        if ray.is_initialized():
            if self._owns_pool:
                self.pool.close()
            else:
                self.pool.forget(self._client)

    def _producer(self, coming: Coming, dooms: Dooms, loop: asyncio.AbstractEventLoop) -> Producer:
        if self._payload is None:
            self._payload = self._sent()
        counters = self._counters  # the iteration is not to keep this loader alive
        settings = Settings(
            workers=self.pool,
            least=self._least,
            most=self._most,
            ahead=self._ahead,
            in_flight=self._in_flight,
            batch_bytes=self._stages.batch_bytes,
            in_order=self._stages.in_order,
            grace=self._grace,
            hooks=self._stages.hooks,
            stats=self._worker_stats,
            lanes=self._lanes,
            places=self._places,
            known=self._known,
            waited=lambda: counters.wait_seconds,
        )
        iteration = next(self._iterations)
        return RayProducer(settings, self._client, iteration, self._payload, coming, dooms, len(self), loop)

    def _sent(self) -> Any:
        source: Any = self.source
        if getattr(source, "reopen", None) is not None:  # a manifest need not be on every node, nor stay as it is
            source = dataclasses.replace(source, reopen=None)
        try:
            return ray.put(Payload(source, self._options, str(Path.cwd())))
        except TypeError as error:
            raise ConfigError(
                f"the source, decoder, reader or sampler cannot be sent to the workers: {error}; give objects that can "
                "be pickled, which open files, locks and connections when they are first used"
            ) from error


def _range(workers: object) -> tuple[int, int]:
    """Return the least and the most workers that are meant."""
    if isinstance(workers, RayPool):
        return workers.workers, workers.workers
    if isinstance(workers, tuple) and len(workers) == 2:
        least, most = (require_whole("workers", number, least=1, example=4) for number in workers)
        if least <= most:
            return least, most
        raise ConfigError(f"workers must be (least, most), got {workers!r}; write workers=({most}, {least})")
    number = require_whole("workers", workers, least=1, example=4)
    return number, number


def _threads(decode_threads: Any, cpus: float) -> int:
    return max(1, int(cpus)) if decode_threads == "auto" else decode_threads
