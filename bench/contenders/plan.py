"""What planning costs: orders of 10⁹ samples, a manifest of 10⁷ lines, and the step from one epoch to the next.

* `open_ms`: a loader's plan of 10⁹ shuffled samples, up to the first batch's indices.
* `batch_us`: the indices of a batch, one after the other; `seek_us`: of batches anywhere. Per sampler.
* `order_mb`: memory that 10,000 batches of it left.
* `manifest_s`, `manifest_mb`, `file_mb`: opening a manifest of 10⁷ lines, the memory that it takes up at last and at
  the peak, and its size; `fingerprint_s`, `pickle_bytes`.
* `gap_ms`, `boundary_ms`: between two batches that a caller takes as they come from `epochs()`, within an epoch and
  over its end: medians.
"""

from __future__ import annotations

import json
import pickle
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import asyncbatch as ab
from asyncbatch import sampling
from bench.contenders._contend import LABELS, parser, peak_memory, settings

SAMPLES = 10**9
BATCH = 32
BATCHES = 10_000
LINES = 10**7
EPOCHS = 20


class Listed:
    """A source that is only as large as it says."""

    fingerprint = "listed"

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> ab.Sample:
        raise IndexError(index)


def memory_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def order_of(sampler: sampling.Sampler, size: int) -> dict[str, float]:
    """Return what the order of a sampler costs."""
    before, began = memory_mb(), time.perf_counter()
    order = sampler.order(Listed(size), 7)
    order.indices(0, 0, BATCH)
    opened = time.perf_counter()
    for at in range(0, BATCHES * BATCH, BATCH):
        order.indices(0, at, at + BATCH)
    passed = time.perf_counter()
    places = np.random.default_rng(1).integers(0, size - BATCH, BATCHES // 10).tolist()
    for at in places:
        order.indices(0, at, at + BATCH)
    sought = time.perf_counter()
    return {
        "open_ms": round(1e3 * (opened - began), 2),
        "batch_us": round(1e6 * (passed - opened) / BATCHES, 1),
        "seek_us": round(1e6 * (sought - passed) / len(places), 1),
        "order_mb": round(memory_mb() - before, 1),
    }


def manifest() -> dict[str, float]:
    """Return what a long manifest costs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        with file.open("w") as out:
            for at in range(0, LINES, 100_000):
                out.write("".join(f"n{n % 1000:04}/photo_{n:08}.jpg {n % 1000}\n" for n in range(at, at + 100_000)))
        before, began = memory_mb(), time.perf_counter()
        source = ab.sources.manifest(file)
        opened = time.perf_counter()
        after, peak = memory_mb(), peak_memory()["peak_rss_mb"]
        fingerprint = source.fingerprint
        printed = time.perf_counter()
        if len(source) != LINES or not fingerprint or source[LINES - 1].label != 999:
            raise SystemExit(f"the manifest was not read as it was written: {source!r}")
        return {
            "manifest_s": round(opened - began, 2),
            "manifest_mb": round(after - before, 1),
            "manifest_peak_mb": round(peak - before, 1),
            "file_mb": round(file.stat().st_size / 1e6, 1),
            "fingerprint_s": round(printed - opened, 2),
            "pickle_bytes": len(pickle.dumps(source)),
        }


def boundary(args: Any) -> dict[str, float]:
    """Return the gaps between batches."""
    gaps: dict[bool, list[float]] = {True: [], False: []}
    with ab.Loader(
        args.data / LABELS, batch_size=args.batch_size, image_size=(args.image_size, args.image_size), shuffle=True,
        drop_last=True,
    ) as loader:  # fmt: skip
        last = None
        for batch in loader.epochs(EPOCHS):
            now = time.perf_counter()
            if last is not None:
                gaps[batch.step == 0].append(now - last)
            last = now
    within, over = (sorted(gaps[kind]) for kind in (False, True))
    return {
        "gap_ms": round(1e3 * statistics.median(within), 2),
        "gap_p95_ms": round(1e3 * within[int(0.95 * len(within))], 2),
        "boundary_ms": round(1e3 * statistics.median(over), 2),
        "boundary_most_ms": round(1e3 * over[-1], 2),
    }


if __name__ == "__main__":
    arguments = parser("plan").parse_args()
    figures: dict[str, Any] = boundary(arguments)
    for sampler in (
        sampling.Sequential(),
        sampling.Shuffle(),
        sampling.BlockShuffle(1000),
        sampling.WithReplacement(),
    ):
        name = type(sampler).__name__.lower()
        figures |= {f"{name}_{key}": value for key, value in order_of(sampler, SAMPLES).items()}
    figures |= manifest()
    print(json.dumps({"name": "plan", "settings": settings(arguments), **figures}))
