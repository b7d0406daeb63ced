"""The façade: what it loads, an iterator for each epoch, and their lives."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Literal, Self

from asyncbatch._arguments import Size, require_whole, size_in_bytes
from asyncbatch._engine import Engine
from asyncbatch._errors import ConfigError, LoaderClosed
from asyncbatch._iterator import BatchIterator, in_thread, on_event_loop
from asyncbatch._stages import Stages
from asyncbatch._types import (
    Array,
    Decoder,
    Hook,
    Reader,
    ReaderFactory,
    Source,
)
from asyncbatch.decoders import ImageDecoder, as_decoder
from asyncbatch.on_error import OnError, require_on_error
from asyncbatch.readers import FileReader
from asyncbatch.sampling import Plan, Sequential, Shuffle
from asyncbatch.sources import as_source
from asyncbatch.stats import Counters, Stats

__all__ = ["Loader"]


class Loader:
    """Reads, decodes and batches pictures in the background while the caller computes.

    Iterable by `for` and by `async for`, with the same batches. Each `iter(loader)` is one epoch, and the epoch number
    advances by itself. At most one iterator is alive: a new one ends the one before it. `break`, an exception, garbage
    collection and interpreter exit end the background work too; `close` or `with` do so at a place of your choosing.

    Args:
        source: A folder with one sub-folder a class, a manifest file with a picture and its label a line, or any
            `Source`, such as `sources.arrays(x, y)`.
        batch_size: Samples a batch.
        image_size: (height, width) in pixels, or one number for both; shorthand for `decoder=ImageDecoder(image_size)`.
            Without it all pictures must have one size.
        decoder: How bytes become a row of the batch: an `ImageDecoder` or any `callable(bytes) -> ndarray`. Default:
            `ImageDecoder(image_size)`; for a source in memory its rows as they are.
        reader: How bytes are had: a `FileReader`, or any object with `async def read(sample) -> bytes` and an int
            `concurrency`. Default: `FileReader()`.
        shuffle: Draw a new order for each epoch, from `seed` and the epoch's number.
        seed: Where everything random begins. The default is fixed: two runs are alike.
        drop_last: Leave out an epoch's last batch when it is shorter. The default is to deliver it.
        prefetch: Batches that are decoded ahead of the caller. 4 cover the jitter of decoding; each costs its memory.
        read_ahead: Budget for bytes read ahead of decoding, in bytes or as "256MB": some 4,000 photographs as
            ImageNet has them, so that one slow file in a hundred stalls nothing.
        decode_threads: "auto" is one for each core that this process may use.
        in_order: Deliver the batches in the plan's order; otherwise as they complete. Their contents are the same.
        on_error: What a sample does that cannot be read or decoded: "raise" in its turn, so that nothing is lost in
            silence; `Skip(limit)` leaves it out, `Replace(limit)` puts another in its place, and both report it.
        hooks: Told about every read, decode, wait and compute span; see `Hook`.

    Attributes:
        source: The `Source` that batches are made of.

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
        drop_last: bool = False,
        prefetch: int = 4,
        read_ahead: Size = "256MB",
        decode_threads: int | Literal["auto"] = "auto",
        in_order: bool = True,
        on_error: OnError = "raise",
        hooks: Sequence[Hook] = (),
    ) -> None:
        require_whole("batch_size", batch_size, least=1, example=32)
        require_whole("seed", seed, least=0, example=7)
        require_whole("prefetch", prefetch, least=1, example=4)
        if decode_threads != "auto":
            require_whole("decode_threads", decode_threads, least=1, example=2)
        self.source = as_source(source)
        size = len(self.source)
        # Not isinstance: before Python 3.12 that evaluates every property, and a fingerprint may hash much data.
        take = getattr(self.source, "take", None)
        self._stages = Stages(
            source=self.source,
            plan=Plan(Shuffle(size, seed) if shuffle else Sequential(size), batch_size, drop_last),
            seed=seed,
            reader=_choose_reader(take is not None, reader),
            take=take,
            decoder=_choose_decoder(take is not None, image_size, decoder),
            decode_threads=_usable_cores() if decode_threads == "auto" else decode_threads,
            prefetch=prefetch,
            read_ahead=size_in_bytes(read_ahead, "read_ahead"),
            in_order=in_order,
            on_error=require_on_error(on_error),
            hooks=tuple(hooks),
        )
        self._counters = Counters()
        self._next_epoch = 0
        self._epoch_was_set = False  # since the last iterator began
        self._closed = False
        self._lock = threading.RLock()
        self._current: weakref.ref[BatchIterator] | None = None

    def __repr__(self) -> str:
        stages = self._stages
        parts = [repr(self.source), f"batch_size={stages.plan.batch_size}", f"decoder={stages.decoder!r}"]
        if isinstance(stages.plan.sampler, Shuffle):
            parts += ["shuffle=True", f"seed={stages.seed}"]
        if stages.on_error != "raise":
            parts.append(f"on_error={stages.on_error!r}")
        return f"Loader({', '.join(parts)})"

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
            n: How many epochs; None goes on for ever.

        Raises:
            LoaderClosed: The loader was closed.
        """
        if n is not None:
            require_whole("n", n, least=1, example=10)
        if self._closed:
            raise LoaderClosed("the loader was closed; make a new one to iterate again")
        self._replace_current(None, "a newer iterator of the same loader took its place")
        first = self._next_epoch
        self._next_epoch = first + 1
        self._epoch_was_set = False
        numbers: Iterable[int] = itertools.count(first) if n is None else range(first, first + n)
        engine = Engine(self._stages, numbers, self._counters)
        try:
            iterator = BatchIterator(engine, self._counters, self._stages.hooks, self._entered)
            self._replace_current(iterator, "another thread began an iterator of the same loader")
        except BaseException:  # Ctrl-C just here: nobody else would ever stop it
            engine.stop()
            raise
        return iterator

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the number of the next iteration's first epoch, whatever is delivered before it begins."""
        require_whole("epoch", epoch, least=0, example=1)
        self._next_epoch = epoch
        self._epoch_was_set = True

    def stats(self) -> Stats:
        """Return what the loader did so far."""
        return self._counters.snapshot()

    def close(self) -> None:
        """End all background work; iterating is an error from now on. Closing again does nothing."""
        self._closed = True
        self._replace_current(None, "the loader was closed", wait=True)

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await in_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _entered(self, epoch: int) -> None:
        if not self._epoch_was_set:
            self._next_epoch = max(self._next_epoch, epoch + 1)

    def _replace_current(self, iterator: BatchIterator | None, why: str, *, wait: bool | None = None) -> None:
        # The lock is held for the exchange alone: a signal handler or a fork may come at any time.
        with self._lock:
            older = self._current() if self._current is not None else None
            self._current = None if iterator is None else weakref.ref(iterator)
        if older is not None:
            older.close(why, wait=not on_event_loop() if wait is None else wait)


def _choose_reader(in_memory: bool, reader: Reader | ReaderFactory | None) -> Reader | ReaderFactory | None:
    if in_memory:
        if reader is not None:
            raise ConfigError(f"the source is in memory and nothing is read; leave out reader={reader!r}")
        return None
    if reader is None:
        return FileReader()
    if not isinstance(reader, Reader | ReaderFactory):
        raise ConfigError(
            f"reader must have `async def read(sample) -> bytes` and an int `concurrency`, got {reader!r}; "
            "write reader=FileReader(concurrency=64)"
        )
    return reader


def _choose_decoder(
    in_memory: bool, image_size: int | tuple[int, int] | None, decoder: Decoder | Callable[[bytes], Array] | None
) -> Decoder | None:
    if decoder is not None:
        if image_size is not None:
            raise ConfigError(
                f"image_size={image_size!r} is for the default decoder and decoder={decoder!r} was given as well; "
                "write decoder=ImageDecoder(image_size, ...) alone"
            )
        return as_decoder(decoder)
    if image_size is None and in_memory:
        return None
    return ImageDecoder(image_size)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
