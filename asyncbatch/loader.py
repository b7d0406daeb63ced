"""The façade: what it loads, an iterator for each epoch, and their lives."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from asyncbatch import _choices as choices
from asyncbatch._arguments import Size, require_flag, require_whole
from asyncbatch._bar import BarIterator
from asyncbatch._counters import Counters
from asyncbatch._delivering import engine_of
from asyncbatch._errors import LoaderClosed
from asyncbatch._iterator import BatchIterator, on_event_loop
from asyncbatch._made import Coming, Dooms, Producer
from asyncbatch._pipeline import Pipeline
from asyncbatch._place import Place
from asyncbatch._shard import Shard, as_shard
from asyncbatch._stages import Stages
from asyncbatch._state import restored, to_state
from asyncbatch._types import Array, Decoder, Hook, Reader, ReaderFactory, Source
from asyncbatch._useful_threads import UsefulThreads
from asyncbatch.decoders import ItemDecoder
from asyncbatch.making import Maker
from asyncbatch.on_error import OnError, require_on_error
from asyncbatch.readers._pool import in_thread
from asyncbatch.readers.cache import Cache, as_cache
from asyncbatch.sampling import Plan, SamplerLike, Sequential, Shuffle, as_sampler, order_of
from asyncbatch.sources import as_source
from asyncbatch.stats import Stats
from asyncbatch.trace import Trace

__all__ = ["Loader"]


class Loader:
    """Reads, decodes and batches pictures in the background while the caller computes.

    Iterable by `for` and by `async for`, with the same batches. Each `iter(loader)` is one epoch, and the epoch number
    advances by itself. At most one iterator is alive: a new one ends the one before it. `break`, an exception, garbage
    collection and interpreter exit end the background work too; `close` or `with` do so at a place of your choosing.

    Args:
        source: A folder with one sub-folder a class, or its URL in an object store ("s3://bucket/pictures"); a manifest
            file with a picture and its label a line; tar archives, a Parquet file; or any `Source`, such as
            `sources.arrays(x, y)` or `sources.items(dataset)`.
        batch_size: Samples a batch.
        image_size: (height, width) in pixels, or one number for both; shorthand for `decoder=ImageDecoder(image_size)`.
            Without it all pictures must have one size.
        decoder: How bytes become a row of the batch: an `ImageDecoder` or any `callable(bytes) -> ndarray`. Default:
            `ImageDecoder(image_size)`; for a source in memory or of items its rows as they are.
        reader: How bytes are had: a `FileReader`, an `ObjectReader`, or any object with an int `concurrency` and
            `async def read(sample) -> bytes`. Default: `FileReader()`; for objects `ObjectReader()`.
        shuffle: Draw a new order for each epoch, from `seed` and the epoch's number.
        seed: Where everything random begins. The default is fixed: two runs are alike.
        sampler: Another order: one of `asyncbatch.sampling`; a sequence of indices, the same in every epoch; or a
            function of the epoch's number that returns one, as long for each epoch. Default: the source's order, or a
            shuffled one.
        drop_last: Leave out an epoch's last batch when it is shorter. The default is to deliver it.
        shard: (rank, world) where several processes train together: a rank's batches are its part of those of all, and
            every rank has as many. `batch_size` is a rank's; with `drop_last=False` the first samples fill up a last
            batch that cannot be shared out evenly. "auto" asks torch.distributed, JAX, or RANK and WORLD_SIZE, whoever
            knows. Default None: every process has everything.
        prefetch: Batches that are decoded ahead of the caller. 4 cover the jitter of decoding; each costs its memory.
        read_ahead: Budget for bytes read ahead of decoding, in bytes or as "256MB": some 4,000 photographs as
            ImageNet has them, so that one slow file in a hundred stalls nothing. Never more than a quarter of the
            memory that the container leaves to this process.
        decode_threads: "auto" is one for each core that this process may use: by its affinity, its container's quota,
            and a fair share where torchrun started several (`LOCAL_WORLD_SIZE`); fewer while the pictures are so small
            that threads would only wait for one another.
        in_order: Deliver the batches in the plan's order; otherwise as they complete. Their contents are the same.
        on_error: What a sample does that cannot be read or decoded: "raise" in its turn, so that nothing is lost in
            silence; `Skip(limit)` leaves it out, `Replace(limit)` puts another in its place, and both report it.
        cache: A folder on a local disk, or a `Cache`, where samples are kept that were read once.
        hooks: A list of those that are told about every read, decode, wait and compute span; see `Hook`.

    Attributes:
        source: The `Source` that batches are made of.
        decoder: What makes rows of bytes, such as an `ImageDecoder`; None for rows in memory as they are.

    Raises:
        ConfigError: An argument cannot be used.
        SourceError: The source is missing, empty, or a line of it cannot be understood.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Source,
        *,
        batch_size: int,
        image_size: int | tuple[int, int] | None = None,
        decoder: Decoder | Callable[[bytes], Array] | None = None,
        reader: Reader | ReaderFactory | None = None,
        shuffle: bool = False,
        seed: int = 0,
        sampler: SamplerLike | None = None,
        drop_last: bool = False,
        shard: Shard = None,
        prefetch: int = 4,
        read_ahead: Size = "256MB",
        decode_threads: int | Literal["auto"] = "auto",
        in_order: bool = True,
        on_error: OnError = "raise",
        cache: Cache | str | os.PathLike[str] | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        batch_size = require_whole("batch_size", batch_size, least=1, example=32)
        seed = require_whole("seed", seed, least=0, example=7)
        prefetch = require_whole("prefetch", prefetch, least=1, example=4)
        shuffle = require_flag("shuffle", shuffle, default=False)
        drop_last = require_flag("drop_last", drop_last, default=False)
        in_order = require_flag("in_order", in_order, default=True)
        self._hooks = [*choices.choose_hooks(hooks)]  # those that come later are told of what is under way
        threads = choices.choose_decode_threads(decode_threads)
        self.source = as_source(source)
        self._sampler = as_sampler(sampler, shuffle=shuffle, block=getattr(self.source, "shuffle_block", None))
        order = order_of(self.source, self._sampler, seed)
        # Not isinstance: before Python 3.12 that evaluates every property, and a fingerprint may hash much data.
        take, fetch = (getattr(self.source, name, None) for name in ("take", "fetch"))
        in_memory = take is not None or fetch is not None
        self.decoder = choices.choose_decoder(in_memory, image_size, decoder)
        self._stages = Stages(
            source=self.source,
            plan=Plan(order, batch_size, drop_last, *as_shard(shard)),
            seed=seed,
            reader=choices.choose_reader(self.source, in_memory, reader, as_cache(cache)),
            keep=choices.choose_keep(self.source, in_memory, as_cache(cache), self.decoder),
            take=take,
            fetch=fetch,
            decoder=ItemDecoder(self.decoder) if fetch is not None else self.decoder,
            decode_threads=threads,
            useful_threads=UsefulThreads(threads),
            prefetch=prefetch,
            read_ahead=choices.choose_read_ahead(read_ahead),
            in_order=in_order,
            on_error=require_on_error(on_error),
            hooks=self._hooks,
        )
        choices.check_batch_fits(self._stages)
        self._counters = Counters(threads, self._stages.read_ahead)
        self._place = Place(self._stages.plan.steps)
        self._closed = False
        self._lock = threading.RLock()
        self._current: weakref.ref[BatchIterator] | None = None

    def __repr__(self) -> str:
        stages = self._stages
        parts = [repr(self.source), f"batch_size={stages.plan.batch_size}", f"decoder={self.decoder!r}"]
        if self._sampler != Sequential():
            order = "shuffle=True" if self._sampler == Shuffle() else f"sampler={self._sampler!r}"
            parts += [order, f"seed={stages.seed}"]
        if stages.plan.world > 1:
            parts.append(f"shard=({stages.plan.rank}, {stages.plan.world})")
        if stages.on_error != "raise":
            parts.append(f"on_error={stages.on_error!r}")
        return f"{type(self).__name__}({', '.join(parts)}): {len(self):,} batches of {stages.batch}"

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._stages.plan.steps

    def __iter__(self) -> BatchIterator:
        return self.epochs(1)

    def __aiter__(self) -> BatchIterator:
        return self.epochs(1)

    def epochs(self, n: int | None = None) -> BatchIterator:
        """Return an iterator over the next `n` epochs that works ahead across their boundaries.

        Args:
            n: How many epochs; None goes on for ever. What is left of an epoch that is resumed counts as one.

        Raises:
            LoaderClosed: The loader was closed.
        """
        if n is not None:
            n = require_whole("n", n, least=1, example=10)
        if self._closed:
            raise LoaderClosed("the loader was closed; make a new one to iterate again")
        self._replace_current(None, "a newer iterator of the same loader took its place")
        begin = self._place.next()
        engine = engine_of(self._stages, begin, n, self._counters, self._producer)
        self._place.begin(begin)
        try:
            iterator = BatchIterator(engine, self._counters, self._stages.hooks, self._place.hear)
            self._replace_current(iterator, "another thread began an iterator of the same loader")
        except BaseException:  # Ctrl-C just here: nobody else would ever stop it
            engine.stop()
            raise
        return iterator

    def progress(self, n: int | None = 1) -> BarIterator:
        """Return what `epochs` does, with a bar for each epoch: how far, img/s, and the share of time spent waiting.

        It shows in terminals and notebooks, and nothing elsewhere. It needs tqdm, `pip install 'asyncbatch[cli]'`.
        """
        plan = self._stages.plan
        batches = self.epochs(n)
        return BarIterator(batches, plan.samples, self._counters, self._place.progress.delivered * plan.batch_size)

    def trace(self, path: str | os.PathLike[str]) -> Trace:
        """Record what the loader does from now on; written when the `Trace`, or the loader, is closed.

        `with loader.trace("trace.json"): …`, and https://ui.perfetto.dev or `chrome://tracing` show it.

        Args:
            path: The JSON file. A million spans, some hundred thousand pictures, are kept.
        """
        if self._closed:
            raise LoaderClosed("the loader was closed; make a new one to trace it")
        trace = Trace(path, self._hooks.remove)
        self._hooks.append(trace)
        return trace

    def maker(self) -> Maker:
        """Return what makes batches by their numbers, for a loader elsewhere; see `asyncbatch.making`."""
        if self._closed:
            raise LoaderClosed("the loader was closed; make a new one to make batches by")
        return Maker(self._stages, self._counters)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the number of the next iteration's first epoch, whatever is delivered before it begins.

        Where a state of that epoch was just loaded it changes nothing: trainers set the epoch after they have loaded a
        state, and mean to go on within it.
        """
        self._place.set_epoch(require_whole("epoch", epoch, least=0, example=1))

    def state_dict(self) -> dict[str, Any]:
        """Return how far the caller came: every batch that it was given counts, and none that only was prefetched.

        After `set_epoch`, and until the next iteration begins, it is the start of that epoch. A `sampler` that is a
        function is known by its name alone. With `in_order=False` each rank has a state of its own.

        A dict of numbers, texts and lists, as JSON or `torch.save` keep them, under 4 KB.
        """
        stages = self._stages
        return to_state(self._place.latest, stages.plan, stages.seed, self.source.fingerprint)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration begin after the last batch of a state; an iterator that is alive ends.

        Nothing is replayed, and nothing of what was seen is read. The state may be that of another number of ranks, if
        all of them together have as large batches as before.

        Raises:
            StateMismatch: It is damaged, or of another source, seed, sampler, global batch or `drop_last`.
        """
        stages = self._stages
        progress = restored(state, stages.plan, stages.seed, self.source.fingerprint)
        self._replace_current(None, "a state was loaded")
        self._place.resumed = progress

    def stats(self) -> Stats:
        """Return what the loader did so far."""
        return self._counters.snapshot()

    def close(self) -> None:
        """End all background work; iterating is an error from now on. Closing again does nothing."""
        self._closed = True
        self._replace_current(None, "the loader was closed", wait=True)
        self._stages.close()

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await in_thread(self.close, "asyncbatch-close")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _producer(self, coming: Coming, dooms: Dooms, loop: asyncio.AbstractEventLoop) -> Producer:
        """Return what makes the batches of an iteration; a loader whose batches are made elsewhere has another."""
        return Pipeline(self._stages, coming, dooms, self._counters, loop)

    def _replace_current(self, iterator: BatchIterator | None, why: str, *, wait: bool | None = None) -> None:
        # The lock is held for the exchange alone: a signal handler or a fork may come at any time.
        with self._lock:
            older = self._current() if self._current is not None else None
            self._current = None if iterator is None else weakref.ref(iterator)
        if older is not None:
            older.close(why, wait=not on_event_loop() if wait is None else wait)
