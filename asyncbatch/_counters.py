"""The running counts behind `Stats`."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any, Protocol

from asyncbatch._errors import SampleError
from asyncbatch._read_times import ReadTimes
from asyncbatch._types import ReadCounters, Sample
from asyncbatch.stats import Stats

__all__ = ["Counters"]

_KEPT_ERRORS = 1000  # some 2 kB each without the frames that they came through


class Held(Protocol):
    """Where bytes wait to be decoded."""

    waiting: int

    @property
    def held(self) -> int: ...


class Counters(SimpleNamespace):
    """The running counts behind `Stats`, by the same names; those of readers by `reads`. None is locked.

    One thread of an iteration adds to each. Two iterations overlap only while an abandoned one ends.

    Args:
        decode_threads: As the loader has it.
        read_ahead: Likewise.
    """

    errors: tuple[SampleError, ...]

    def __init__(self, decode_threads: int = 0, read_ahead: int = 0) -> None:
        super().__init__(**{one.name: one.default for one in fields(Stats) if one.name not in _NOT_COUNTED_HERE})
        self.decode_threads = decode_threads
        self.read_ahead = read_ahead
        self.reads = ReadTotals()
        self.read_times = ReadTimes()
        self.window: Held | None = None  # of the latest iteration

    def read(self, times: Sequence[float], samples: Sequence[Sample], size: int) -> None:
        """Take note of reads that went well.

        Args:
            times: How many seconds each of them took, one at least.
            samples: Whose they were.
            size: How many bytes they brought together.
        """
        self.bytes_read += size
        self.read_seconds += sum(times)
        self.read_times.add(times, samples)

    def waited(self, reading: float, decoding: float, handoff: float) -> None:
        """Take note of how long the caller waited for a batch, in seconds, by the reasons."""
        self.wait_reading += reading
        self.wait_decoding += decoding
        self.wait_handoff += handoff
        self.wait_seconds += reading + decoding + handoff

    def let_pass(self, error: SampleError) -> None:
        """Keep an error that does not end the iteration."""
        self.errors = (*self.errors, error)[-_KEPT_ERRORS:]  # a new tuple: a snapshot may be taken meanwhile

    def snapshot(self) -> Stats:
        """Return them as they are now."""
        counted = {name: value for name, value in vars(self).items() if name not in _PARTS}
        window = self.window
        return Stats(
            **counted,
            **self.reads.totals(),
            bytes_ahead=0 if window is None else window.held,
            samples_ahead=0 if window is None else window.waiting,
            read_latency=self.read_times.latency(),
            slowest_reads=self.read_times.slowest(),
        )


_PARTS = ("reads", "read_times", "window")


class ReadTotals:
    """The counters of all readers of a loader, one after another, as if they were one reader's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of who writes the next line; a snapshot reads it whole, and waits for nobody
        self._state = _Watched()

    @contextmanager
    def watching(self, reader: object, kept: ReadCounters | None = None) -> Generator[None]:
        """Count what a reader does meanwhile, and what rows are `kept`.

        A reader that does not count tells its `concurrency` alone.
        """
        counters = getattr(reader, "counters", None)
        if not isinstance(counters, ReadCounters):
            counters = ReadCounters(concurrency=getattr(reader, "concurrency", 0))
        # A reader without a factory serves many iterations, and counts on.
        entries = [(one, replace(one)) for one in (counters, kept) if one is not None]
        with self._lock:
            state = self._state
            self._state = _Watched(state.past, (*state.running, *entries), counters)
        try:
            yield
        finally:
            with self._lock:
                state = self._state
                ours = {id(entry) for entry in entries}
                running = tuple(entry for entry in state.running if id(entry) not in ours)
                self._state = _Watched(_sum(state.past, entries), running, state.latest)

    def totals(self) -> dict[str, Any]:
        """Return the fields of `Stats` that are the readers'."""
        state = self._state
        sums = dict(zip(_SUMMED, _sum(state.past, state.running), strict=True))
        return sums | {name: getattr(state.latest, name) for name in _LATEST}


_SUMMED = ("retries", "timeouts", "hedges", "cache_hits", "cache_misses", "cache_bytes", "cache_corrupt")
_LATEST = ("lost_threads", "concurrency", "group")
_NOT_COUNTED_HERE = {*_SUMMED, *_LATEST, "bytes_ahead", "samples_ahead", "read_latency", "slowest_reads"}

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
