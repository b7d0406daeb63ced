"""What the pipeline itself costs: CPU time a sample with decoding switched off, and the time that `next` takes.

* `cpu_us_a_sample`: files are read and pass through every stage; the decoder leaves its slot as it is.
* `cpu_us_of_reading`: the same files read in a plain loop; the difference is the pipeline.
* `cpu_us_a_batch`: rows that are in memory, so that only planning, a decode thread and the hand-off are left.
* `next_us`: how long `next` takes for a caller slower than the loader, which finds a batch ready: median.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import asyncbatch as ab
from bench.contenders._contend import LABELS, parser, settings
from bench.data import read_labels

RUNS = 5
BATCHES = 2000
PAUSES = 300
PAUSE = 0.005  # seconds; many times what the loader needs for a batch in memory


class NoDecoding:
    """A decoder that takes the bytes and writes nothing."""

    def __init__(self, size: int) -> None:
        self.row_shape = (size, size, 3)
        self.row_dtype = np.dtype(np.uint8)

    def decode(self, data: Any, out: np.ndarray, seed: tuple[int, int, int]) -> np.ndarray:
        del data, seed
        return out


def cpu_us(work: Callable[[], None]) -> float:
    """Return the CPU time of all threads over one call of `work`: the median of some, after one that warms up."""
    work()
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e6 * statistics.median(times)


def exhaust(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def read_all(paths: Sequence[str]) -> None:
    for path in paths:
        Path(path).read_bytes()


def next_us(batches: ab.BatchIterator) -> float:
    times = []
    for _ in range(PAUSES):
        time.sleep(PAUSE)
        began = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - began)
    batches.close()
    return 1e6 * statistics.median(times)


def main() -> None:
    args = parser("overhead").parse_args()
    paths, _ = read_labels(args.data)
    rows = np.zeros((BATCHES * args.batch_size, 1), np.uint8)
    with (
        ab.Loader(args.data / LABELS, batch_size=args.batch_size, decoder=NoDecoding(args.image_size)) as files,
        ab.Loader(ab.sources.arrays(rows), batch_size=args.batch_size) as memory,
    ):
        line = {
            "name": "overhead",
            "settings": settings(args),
            "cpu_us_a_sample": round(cpu_us(lambda: exhaust(files)) / len(paths), 1),
            "cpu_us_of_reading": round(cpu_us(lambda: read_all(paths)) / len(paths), 1),
            "cpu_us_a_batch": round(cpu_us(lambda: exhaust(memory)) / BATCHES, 1),
            "next_us": round(next_us(iter(memory)), 1),
        }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
