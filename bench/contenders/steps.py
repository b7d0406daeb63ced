"""How busy an accelerator is: the caller takes batches and then "computes" for a given time.

The step is a sleep, which leaves the cores and the interpreter alone, as a step on an accelerator does. Loading alone
is timed first; then steps of a quarter of its time a batch up to three times that.

* `loading_ms`: a batch's, without compute.
* `wall_x_N`: wall time over the longer of loading and computing, with steps of N % of the loading time: 1 is the best
  that can be.
* `busy_x_N`: computing over wall time, in percent; MLPerf Storage calls it accelerator utilisation
  (https://mlcommons.org/benchmarks/storage, "AU").
"""

from __future__ import annotations

import argparse
import json
import time

import asyncbatch as ab
from bench.contenders._contend import LABELS, parser, settings

SHARES = (25, 50, 75, 100, 125, 150, 300)
EPOCHS = 2


def run(loader: ab.Loader, step: float) -> tuple[float, float]:
    """Return the wall time of some epochs from the first batch on, and how long was computed."""
    computing = 0.0
    batches = loader.epochs(EPOCHS)
    next(batches)
    began = time.perf_counter()
    for _ in batches:
        before = time.perf_counter()
        if step:
            time.sleep(step)
        computing += time.perf_counter() - before
    return time.perf_counter() - began, computing


def measure(args: argparse.Namespace) -> dict[str, float]:
    line = {}
    with ab.Loader(
        args.data / LABELS, batch_size=args.batch_size, image_size=args.image_size, drop_last=True
    ) as loader:
        run(loader, 0.0)  # warm-up
        count = EPOCHS * len(loader) - 1
        loading = run(loader, 0.0)[0] / count
        line["loading_ms"] = round(1e3 * loading, 2)
        for share in SHARES:
            wall, computing = run(loader, loading * share / 100)
            line[f"wall_x_{share}"] = round(wall / max(loading * count, computing), 3)
            line[f"busy_x_{share}"] = round(100 * computing / wall, 1)
    return line


if __name__ == "__main__":
    parsed = parser("steps").parse_args()
    print(json.dumps({"name": "steps", "settings": settings(parsed), **measure(parsed)}))
