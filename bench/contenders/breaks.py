"""A thousand loops over one loader that each break after a batch: what is left of them, and how long a break takes.

Threads, descriptors and resident memory are compared with what they were after the first few loops, since imports,
allocators and OpenCV settle once. A look halfway tells memory that still grows from memory that settled later.
"""

from __future__ import annotations

import gc
import json
import statistics
import time

import psutil

import asyncbatch as ab
from bench.contenders._contend import LABELS, parser, settings

SETTLING = 10


def footprint() -> dict[str, float]:
    gc.collect()
    process = psutil.Process()
    memory = round(process.memory_info().rss / 1e6, 1)
    return {"threads": process.num_threads(), "descriptors": process.num_fds(), "rss_mb": memory}


def break_once(loader: ab.Loader) -> tuple[float, float]:
    """Return how long the first batch took, and the break after it, in seconds."""
    began = got = time.perf_counter()
    for _ in loader:
        got = time.perf_counter()
        break
    return got - began, time.perf_counter() - got


def main() -> None:
    arguments = parser("breaks")
    arguments.add_argument("--loops", type=int, default=1000)
    args = arguments.parse_args()
    size = (args.image_size, args.image_size)
    with ab.Loader(args.data / LABELS, batch_size=args.batch_size, image_size=size) as loader:
        for _ in range(SETTLING):
            break_once(loader)
        footprints = {"before": footprint()}
        times = [break_once(loader) for _ in range(args.loops // 2)]
        footprints["halfway"] = footprint()
        times += [break_once(loader) for _ in range(args.loops - len(times))]
        footprints["after"] = footprint()
    firsts, breaks = zip(*times, strict=True)
    line = {
        "name": "breaks",
        "settings": settings(args),
        "first_batch_ms": round(1e3 * statistics.median(firsts), 2),
        "break_ms": round(1e3 * statistics.median(breaks), 2),
        "break_ms_greatest": round(1e3 * max(breaks), 2),
        **{f"{key}_{when}": value for when, found in footprints.items() for key, value in found.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
