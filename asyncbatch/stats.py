"""What a loader did so far: numbers, words, scalars for a training log, and a picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from asyncbatch._advice import describe_stats
from asyncbatch._errors import SampleError
from asyncbatch._read_times import ReadLatency, SlowRead

__all__ = ["ReadLatency", "SlowRead", "Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot over the loader's life. `print` it for a paragraph that ends with what to change, if anything.

    Attributes:
        batches: Batches delivered to the caller.
        samples: Samples in these.
        bytes_read: Bytes that came from storage, for batches still ahead of the caller too.
        read_seconds: Sum of the time that each read took.
        decode_seconds: Sum of the time that each decoding took.
        wait_seconds: How long the caller waited for batches. Near zero, the caller's own work is the limit. It is the
            sum of the next three.
        wait_reading: Of that, until the last bytes of the batch had come. Storage is the limit, or the start was.
        wait_decoding: Of that, from then on until the batch was complete. Decoding is the limit. (Where a thread reads
            and decodes in one go, the two have their usual shares of the time.)
        wait_handoff: Of that, while the batch was there already. Something kept Python from running: code that holds
            the interpreter's lock for long, in a transform or beside the loop, or a caller's event loop.
        compute_seconds: How long the caller was busy between batches.
        retries: Reads that were tried again after an error that may pass. Nothing is lost by them but time; when they
            are many, the storage or the way to it is unwell.
        timeouts: Reads that were given up because they were past their deadline while others were answered. When they
            are many, the storage hangs, or the reader's `timeout` is too short for it.
        hedges: Reads that were asked of a second replica because the first was slow. They cost the replica that much
            more work and spare the caller the slow tail; always near the cap, one replica is slower than the other.
        direct: Samples that one thread read and decoded in one go, because the storage answered at once. When they are
            nearly all, storage is no concern.
        cache_hits: Samples that the cache had. In the second epoch they are the share of the set that it holds.
        cache_misses: Samples that it had not.
        cache_bytes: Bytes that came from the cache, besides `bytes_read`.
        cache_corrupt: Entries of the cache that were not what they were when they came, and were fetched again. More
            than a few: the disk is unwell.
        lost_threads: Threads stuck in a read that was given up, of the latest iteration, now. Each holds its memory
            until the storage answers; at the reader's `max_lost` no further one is given up.
        concurrency: How many reads the reader allows at once, now or at the end of the latest iteration. What it found
            best where it tunes itself; low after a shortage of descriptors or threads.
        group: How many files a thread reads in one go, likewise: 1 where the storage is slow, more where a hop to the
            thread and back would cost more than the read.
        decode_threads: How many samples are decoded at once.
        bytes_ahead: Bytes that were read, or are known to come, and are not decoded yet; now. At `read_ahead` while the
            caller waits, a few slow reads hold up whole batches.
        samples_ahead: Samples that were read and are not decoded yet; now. Many, while the caller waits for reading:
            one that is late holds up those behind it.
        read_ahead: The budget for `bytes_ahead`.
        skipped: Samples that `on_error=Skip(...)` left out, of batches still ahead of the caller too.
        replaced: Samples that a stand-in took the place of under `on_error=Replace(...)`, likewise.
        errors: The last 1,000 errors that `on_error` let pass, in the order in which their batches left, with their
            causes but without tracebacks. Those of failed stand-ins, and of batches that were not delivered because
            nothing was left of them, are among these.
        read_latency: How long reads took, one by one. A 99th percentile far above the median calls for `read_ahead`.
        slowest_reads: The ten slowest, the slowest first. The same file again and again: look at that file.
    """

    batches: int = 0
    samples: int = 0
    bytes_read: int = 0
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    wait_reading: float = 0.0
    wait_decoding: float = 0.0
    wait_handoff: float = 0.0
    compute_seconds: float = 0.0
    retries: int = 0
    timeouts: int = 0
    hedges: int = 0
    direct: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_bytes: int = 0
    cache_corrupt: int = 0
    lost_threads: int = 0
    concurrency: int = 0
    group: int = 0
    decode_threads: int = 0
    bytes_ahead: int = 0
    samples_ahead: int = 0
    read_ahead: int = 0
    skipped: int = 0
    replaced: int = 0
    errors: tuple[SampleError, ...] = ()
    read_latency: ReadLatency = field(default_factory=ReadLatency)
    slowest_reads: tuple[SlowRead, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the caller iterated: it waited or computed."""
        return self.wait_seconds + self.compute_seconds

    @property
    def utilisation(self) -> float:
        """The share of that in which the caller computed, 0 to 1; 1 before anything was delivered."""
        return self.compute_seconds / self.seconds if self.seconds else 1.0

    @property
    def reads_under_way(self) -> float:
        """How many reads were under way on average. Far below `concurrency`, more of them would not help."""
        return self.read_seconds / self.seconds if self.seconds else 0.0

    @property
    def decoding_busy(self) -> float:
        """The share of the time, 0 to 1, in which a decode thread decoded. Near 1, decoding is the limit."""
        return min(1.0, self.decode_seconds / (self.seconds * self.decode_threads)) if self.seconds else 0.0

    def since(self, earlier: Stats) -> Stats:
        """Return what came after an earlier snapshot of the same loader: an epoch's or a minute's statistics.

        What is of now, such as `concurrency`, stays; of `errors` there are those that this snapshot keeps. There are no
        `slowest_reads`, which are of the loader's whole life.
        """
        known = set(map(id, earlier.errors))
        return replace(
            self,
            **{name: getattr(self, name) - getattr(earlier, name) for name in COUNTED},
            errors=tuple(error for error in self.errors if id(error) not in known),
            read_latency=self.read_latency.since(earlier.read_latency),
            slowest_reads=(),
        )

    def at_its_end(self) -> Stats:
        """Return what is left of these when their process is gone: what was done, and nothing of now."""
        nothing: dict[str, Any] = dict.fromkeys(_OF_NOW, 0)
        return replace(self, **nothing)

    def with_workers(self, workers: Iterable[Stats]) -> Stats:
        """Return these, of what was delivered, with what workers did for it elsewhere: sums, as of one loader.

        `group` is the largest among the workers, and `slowest_reads` are the slowest of all of them.
        """
        workers = [*workers]
        latency: Counter[float] = Counter()
        for one in workers:
            latency.update(dict(one.read_latency.buckets))
        sums = {name: sum(getattr(one, name) for one in workers) for name in _OF_WORKERS}
        slowest = sorted((read for one in workers for read in one.slowest_reads), reverse=True)
        return replace(
            self,
            **sums,
            group=max((one.group for one in workers), default=0),
            read_latency=ReadLatency(tuple(sorted(latency.items()))),
            slowest_reads=tuple(slowest[:10]),
        )

    def scalars(self, prefix: str = "loader/") -> dict[str, float]:
        """Return what a training log wants to draw, by name; for TensorBoard `writer.add_scalar(name, value, step)`.

        Args:
            prefix: What the names begin with.
        """
        seconds = self.seconds or float("nan")
        values = {
            "samples_per_second": self.samples / seconds,
            "megabytes_per_second": self.bytes_read / 1e6 / seconds,
            "waiting": self.wait_seconds / seconds,
            "waiting_for_reading": self.wait_reading / seconds,
            "waiting_for_decoding": self.wait_decoding / seconds,
            "waiting_for_handoff": self.wait_handoff / seconds,
            "decoding_busy": self.decoding_busy,
            "reads_under_way": self.reads_under_way,
            "read_seconds_median": self.read_latency.quantile(0.5),
            "read_seconds_p99": self.read_latency.quantile(0.99),
            "concurrency": self.concurrency,
            "bytes_ahead": self.bytes_ahead,
            "samples_ahead": self.samples_ahead,
            "retries": self.retries,
            "skipped": self.skipped,
            "replaced": self.replaced,
        }
        return {prefix + name: float(value) for name, value in values.items()}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw where the time went, and how long reads took; `pip install 'asyncbatch[plot]'`.

        Args:
            path: Where to write it, by the suffix as PNG, PDF or SVG; None writes nothing.

        Returns:
            The `matplotlib.figure.Figure`, which a notebook shows.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from asyncbatch._plots import draw_stats  # noqa: PLC0415 - matplotlib is an extra, and takes a second

        return draw_stats(self, path)

    def __str__(self) -> str:
        return describe_stats(self)


_OF_NOW = ("lost_threads", "concurrency", "group", "decode_threads", "bytes_ahead", "samples_ahead", "read_ahead")
COUNTED = tuple(one.name for one in fields(Stats) if one.default in (0, 0.0) and one.name not in _OF_NOW)
"""What only grows."""

_OF_CALLER = ("batches", "samples", "compute_seconds", "wait_seconds", "wait_reading", "wait_decoding", "wait_handoff",
              "skipped", "replaced")  # fmt: skip
_OF_WORKERS = tuple(name for name in (*COUNTED, *_OF_NOW) if name not in (*_OF_CALLER, "group"))
