"""Later epochs from a cache of decoded pictures, against a bare gather of the same rows of a memory map.

* `plain_images_per_s`: an epoch from page cache without a cache.
* `first_images_per_s`: the epoch that fills the cache.
* `later_images_per_s`: the epochs after it, each by a loop of its own; their median, like `gather_images_per_s`: epochs
  of `rows[indices]` of an `np.memmap` of all rows, in batches as large and an order as random, in turn with those.
* `later_by_first`, `gather_by_later`: what one has over the other.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import asyncbatch as ab
from bench.contenders._contend import LABELS, parser, settings
from bench.data import read_labels

ROUNDS = 7


def main() -> None:
    args = parser("cache").parse_args()
    for path in read_labels(args.data)[0]:
        Path(path).read_bytes()
    plan = {"batch_size": args.batch_size, "image_size": args.image_size, "shuffle": True}
    with tempfile.TemporaryDirectory(prefix="asyncbatch-bench-") as folder:
        with ab.Loader(args.data / LABELS, **plan) as loader:
            plain = speed_of(loader)
        cache = ab.Cache(Path(folder) / "cache", what="decoded")
        with ab.Loader(args.data / LABELS, cache=cache, **plan) as loader:
            first = speed_of(loader)
            rows = memory_map(Path(folder) / "rows", len(loader.source), args.image_size)
            speed_of(loader)  # not timed, nor is the first gather: their pages are mapped for the first time
            speed_of(gather(rows, args.batch_size))
            timed = [(speed_of(loader), speed_of(gather(rows, args.batch_size))) for _ in range(ROUNDS)]
            if loader.stats().cache_misses != len(loader.source):
                raise SystemExit("not everything was kept in the first epoch, or found in the later ones")
    later, gathered = (statistics.median(speeds) for speeds in zip(*timed, strict=True))
    line = {
        "name": "cache",
        "settings": settings(args),
        "plain_images_per_s": round(plain, 1),
        "first_images_per_s": round(first, 1),
        "later_images_per_s": round(later, 1),
        "gather_images_per_s": round(gathered, 1),
        "later_by_first": round(later / first, 2),
        "gather_by_later": round(gathered / later, 2),
    }
    print(json.dumps(line))


def speed_of(batches):
    """Return pictures a second of one epoch, from asking for the first batch to the end."""
    began, images = time.perf_counter(), 0
    for batch, *_ in batches:
        images += len(batch)
    return images / (time.perf_counter() - began)


def memory_map(path, count, size):
    """Write as many rows as there are pictures, and map them."""
    shape = (count, size, size, 3)
    np.random.default_rng(0).integers(0, 255, shape, np.uint8).tofile(path)
    return np.memmap(path, np.uint8, "r", shape=shape)


def gather(rows, batch_size):
    order = np.random.default_rng(1).permutation(len(rows))
    for start in range(0, len(order), batch_size):
        yield (rows[order[start : start + batch_size]],)


if __name__ == "__main__":
    main()
