"""Whether memory grows: resident memory after each of many epochs.

* `after_1_mb`, `after_last_mb`: after the second epoch and after the last.
* `growth_mb`: between the highest of the first five epochs, without the first, and the highest of the last five.
* `peak_mb`: of all; `before_mb`: before the first batch, with all packages imported.
"""

from __future__ import annotations

import json

import psutil

import asyncbatch as ab
from bench.contenders._contend import LABELS, parser, settings


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def main() -> None:
    args = parser("memory").parse_args()
    before, after = resident_mb(), []
    with ab.Loader(
        args.data / LABELS, batch_size=args.batch_size, image_size=args.image_size, shuffle=True, drop_last=True
    ) as loader:
        for _ in range(args.epochs):
            for _batch in loader:
                pass
            after.append(resident_mb())
    line = {
        "name": "memory",
        "settings": settings(args),
        "before_mb": round(before, 1),
        "after_1_mb": round(after[1], 1),
        "after_last_mb": round(after[-1], 1),
        "growth_mb": round(max(after[-5:]) - max(after[1:6]), 1),
        "peak_mb": round(max(after), 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
