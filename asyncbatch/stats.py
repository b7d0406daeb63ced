"""What a loader did so far, counted."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any

from asyncbatch._errors import SampleError
from asyncbatch._types import ReadCounters

__all__ = ["Counters", "Stats"]

_KEPT_ERRORS = 1000  # some 2 kB each without the frames that they came through


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot over the loader's life.

    Attributes:
        batches: Batches delivered to the caller.
        samples: Samples in these.
        bytes_read: Bytes that came from storage, for batches still ahead of the caller too.
        read_seconds: Sum of the time that each read took. Divided by the wall time it is the mean number of reads under
            way.
        decode_seconds: Sum of the time that each decoding took, likewise. Near `decode_threads` × wall time, decoding
            is the limit.
        wait_seconds: How long the caller waited for batches. Near zero, the caller's own work is the limit.
        compute_seconds: How long the caller was busy between batches.
        retries: Reads that were tried again after an error that may pass. Nothing is lost by them but time; when they
            are many, the storage or the way to it is unwell.
        timeouts: Reads that were given up because they were past their deadline while others were answered. When they
            are many, the storage hangs, or the reader's `timeout` is too short for it.
        hedges: Reads that were asked of a second replica because the first was slow. They cost the replica that much
            more work and spare the caller the slow tail; always near the cap, one replica is slower than the other.
        lost_threads: Threads stuck in a read that was given up, of the latest iteration, now. Each holds its memory
            until the storage answers; at the reader's `max_lost` no further one is given up.
        concurrency: How many reads the reader allows at once, now or at the end of the latest iteration. What it found
            best where it tunes itself; low after a shortage of descriptors or threads.
        skipped: Samples that `on_error=Skip(...)` left out, of batches still ahead of the caller too.
        replaced: Samples that a stand-in took the place of under `on_error=Replace(...)`, likewise.
        errors: The last 1,000 errors that `on_error` let pass, in the order in which their batches left, with their
            causes but without tracebacks. Those of failed stand-ins, and of batches that were not delivered because
            nothing was left of them, are among these.
    """

    batches: int = 0
    samples: int = 0
    bytes_read: int = 0
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    compute_seconds: float = 0.0
    retries: int = 0
    timeouts: int = 0
    hedges: int = 0
    lost_threads: int = 0
    concurrency: int = 0
    skipped: int = 0
    replaced: int = 0
    errors: tuple[SampleError, ...] = ()


class Counters(SimpleNamespace):
    """The running counts behind `Stats`, by the same names; those of readers by `reads`. None is locked.

    One thread of an iteration adds to each. Two iterations overlap only while an abandoned one ends.
    """

    errors: tuple[SampleError, ...]

    def __init__(self) -> None:
        super().__init__(**{one.name: one.default for one in fields(Stats) if one.name not in _OF_READERS})
        self.reads = ReadTotals()

    def let_pass(self, error: SampleError) -> None:
        """Keep an error that does not end the iteration."""
        self.errors = (*self.errors, error)[-_KEPT_ERRORS:]  # a new tuple: a snapshot may be taken meanwhile

    def snapshot(self) -> Stats:
        ours = {name: value for name, value in vars(self).items() if name != "reads"}
        return Stats(**ours, **self.reads.totals())


class ReadTotals:
    """The counters of all readers of a loader, one after another, as if they were one reader's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of who writes the next line; a snapshot reads it whole, and waits for nobody
        self._state = _Watched()

    @contextmanager
    def watching(self, reader: object) -> Generator[None]:
        """Count what a reader does meanwhile. One that does not count tells its `concurrency` alone."""
        counters = getattr(reader, "counters", None)
        if not isinstance(counters, ReadCounters):
            counters = ReadCounters(concurrency=getattr(reader, "concurrency", 0))
        # A reader without a factory serves many iterations, and counts on.
        entry = counters, replace(counters)
        with self._lock:
            state = self._state
            self._state = _Watched(state.past, (*state.running, entry), counters)
        try:
            yield
        finally:
            with self._lock:
                state = self._state
                running = tuple(other for other in state.running if other is not entry)
                self._state = _Watched(_sum(state.past, [entry]), running, state.latest)

    def totals(self) -> dict[str, Any]:
        """Return the fields of `Stats` that are the readers'."""
        state = self._state
        sums = dict(zip(_SUMMED, _sum(state.past, state.running), strict=True))
        return {**sums, "lost_threads": state.latest.lost_threads, "concurrency": state.latest.concurrency}


_SUMMED = ("retries", "timeouts", "hedges")
_OF_READERS = {one.name for one in fields(ReadCounters)}

_Entry = tuple[ReadCounters, ReadCounters]  # as they count, and as they were when the iteration began


@dataclass(frozen=True, slots=True)
class _Watched:
    past: tuple[int, ...] = (0,) * len(_SUMMED)
    running: tuple[_Entry, ...] = ()
    latest: ReadCounters = field(default_factory=ReadCounters)


def _sum(past: tuple[int, ...], entries: tuple[_Entry, ...] | list[_Entry]) -> tuple[int, ...]:
    return tuple(
        total + sum(getattr(now, name) - getattr(before, name) for now, before in entries)
        for name, total in zip(_SUMMED, past, strict=True)
    )
