"""Grain, put together as its documentation does: a source that is mapped by the threads of `to_iter_dataset`, batched.

`--stages image` gives the threads single pictures and batches what they bring; `--stages batch` batches before the
threads, each of which then makes whole batches, one picture after the other. With `--workers`, whole processes of such
threads take turns (`mp_prefetch`), at pictures or at batches; either way the order is that of the list. The decoder is
asyncbatch's, the fastest here.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import absent, chunks, contend, parser

try:
    import grain
except ImportError as error:
    absent("grain", error)


class Load(grain.transforms.Map):
    def __init__(self, size: int) -> None:
        self.size = (size, size)

    def map(self, sample: tuple[str, int]) -> tuple[np.ndarray, int]:
        path, label = sample
        return cv2.resize(simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB"), self.size), label


def start_worker(_index: int, _count: int) -> None:
    cv2.setNumThreads(1)


def build(args: argparse.Namespace) -> grain.IterDataset:
    batches = chunks(args.data, args.batch_size)
    samples = list(itertools.chain.from_iterable(zip(*batch, strict=True) for batch in batches))
    pictures = grain.MapDataset.source(samples).repeat(args.epochs).map(Load(args.image_size))
    # The buffer holds what the threads have finished, in pictures or in batches, and bounds what they work at.
    whole = args.stages == "batch"
    reading = grain.ReadOptions(
        num_threads=args.threads,
        prefetch_buffer_size=max(args.threads, args.buffer * (1 if whole else args.batch_size)),
    )
    workers = grain.MultiprocessingOptions(
        num_workers=args.workers, per_worker_buffer_size=args.buffer * (1 if whole else args.batch_size)
    )
    if whole:
        pictures = pictures.batch(args.batch_size, drop_remainder=True)
    dataset = pictures.to_iter_dataset(reading)
    if args.workers:
        dataset = dataset.mp_prefetch(workers, worker_init_fn=start_worker)
    return dataset if whole else dataset.batch(args.batch_size, drop_remainder=True)


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    batches = iter(build(args))
    try:
        yield from batches
    finally:
        batches.close()


if __name__ == "__main__":
    cv2.setNumThreads(1)
    arguments = parser("grain")
    arguments.add_argument("--threads", type=int, default=16, help="that read and decode, in each process")
    arguments.add_argument("--workers", type=int, default=0, help="processes; 0: this one alone")
    arguments.add_argument("--stages", choices=["image", "batch"], default="image")
    arguments.add_argument("--buffer", type=int, default=4, help="batches ready for the caller, of each process")
    contend("grain", epochs, arguments.parse_args())
