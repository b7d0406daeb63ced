"""`asyncbatch.train_data`, which delivers the loop's own values: float64, 0 to 1, BGR."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import asyncbatch as ab
from bench.contenders._contend import LABELS, contend, parser


def epochs(args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    for _ in range(args.epochs):
        yield from ab.train_data(args.data / LABELS, args.batch_size, (args.image_size, args.image_size))


if __name__ == "__main__":
    contend("train_data", epochs, parser("train_data").parse_args())
