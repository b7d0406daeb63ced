"""What the measured levels say: where more readers stop helping, and what is in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asyncbatch.cli.doctor_probe import Level, Reading

__all__ = ["Diagnosis", "Limit", "Times", "diagnose", "times"]

_Part = Callable[[Reading], float]

Limit = Literal["hung", "memory", "processor", "bandwidth", "slots", "latency", "unknown"]

NEAR = 0.9  # of the greatest rate: a level that has so much is as good
FAST = 0.0005  # seconds a file, opened, read and closed: no network answers so soon, page cache and local disks do
BUSY = 0.75  # of one core's time: the readers share one interpreter lock, so that this is nearly all they can use
SAME, SLOWED = 1.5, 2.0  # times as slow as alone: hardly, and for certain
TAIL = 10.0  # times the median: later answers are worth a word
LARGE = 32_768  # bytes a file, below which the number of requests and not their bytes fills a line


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, in seconds."""

    median: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What limits the storage.

    Attributes:
        limit: "hung": reads do not return; "memory": page cache or a fast local disk answers; "processor": this
            process; "bandwidth": bytes a second; "slots": requests at once; "latency": nothing yet, more readers
            still read more; "unknown": too little was read.
        readers: With so many readers the rate is as good as it gets.
        most_readers: With so many readers it was greatest.
        files_per_second: The greatest rate.
        bytes_per_second: At the same level.
        at_once: How many reads the storage runs at once, by Little's law: the greatest rate times the mean time of a
            read that has no company.
        tail: How many times the median the latest answer took, at the level where `readers` is.
        rest: What all reads under way need of `read_ahead` while the latest one is awaited, in bytes.
    """

    limit: Limit
    readers: int
    most_readers: int
    files_per_second: float
    bytes_per_second: float
    at_once: float
    tail: float
    rest: float


def times(seconds: Sequence[float]) -> Times:
    """Return median, 95th and 99th percentile, and the greatest."""
    median, p95, p99, most = np.quantile(seconds, (0.5, 0.95, 0.99, 1.0)).tolist()
    return Times(median, p95, p99, most)


def diagnose(levels: Sequence[Level], ended: str) -> Diagnosis:
    """Say what limits storage that gave these levels.

    Args:
        levels: As measured, from one reader on; at least the first has readings.
        ended: Why there are no more, see `Probe.ended`.
    """
    usable = [level for level in levels if level.readings]
    best = max(usable, key=lambda level: level.files_per_second)
    knee = next(level for level in usable if level.files_per_second >= NEAR * best.files_per_second)
    alone = usable[0]
    seconds = times([reading.seconds for reading in knee.readings])
    rate = best.bytes_per_second
    return Diagnosis(
        limit=_limit(usable, alone, knee, best, ended),
        readers=knee.readers,
        most_readers=best.readers,
        files_per_second=best.files_per_second,
        bytes_per_second=rate,
        at_once=best.files_per_second * _mean([reading.seconds for reading in alone.readings]),
        tail=seconds.most / max(seconds.median, 1e-9),
        rest=rate * seconds.most,
    )


def _limit(usable: Sequence[Level], alone: Level, knee: Level, best: Level, ended: str) -> Limit:
    if ended == "hung":
        return "hung"
    if times([reading.seconds for reading in alone.readings]).median < FAST:
        return "memory"
    if len(usable) < 3:
        return "unknown"
    if best.processor > BUSY:
        return "processor"
    if ended != "plateau" and knee is usable[-1]:
        return "latency"
    last = usable[-1]
    opening, reading = (_slowed(part, alone, last) for part in (_opening, _reading))
    # Requests that wait for a turn are late whatever they ask for; on a full line those with many bytes are. (Reading
    # takes several requests in a row where opening takes one, so that it may slow down more in both cases.)
    if opening < SAME and reading > SLOWED and _mean([float(r.size) for r in last.readings]) >= LARGE:
        return "bandwidth"
    return "slots" if ended == "plateau" else "unknown"


def _slowed(part: _Part, alone: Level, crowded: Level) -> float:
    """Return how many times as long a part of reading takes in company."""
    before, now = (float(np.median([part(r) for r in level.readings])) for level in (alone, crowded))
    return now / max(before, 1e-6)


def _opening(reading: Reading) -> float:
    return reading.opened - reading.start


def _reading(reading: Reading) -> float:
    return reading.stop - reading.opened


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
