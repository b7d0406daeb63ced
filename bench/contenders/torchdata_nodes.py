"""torchdata.nodes, put together as its documentation does: threads that map pictures in order, a batcher, a prefetcher.

`--decode-threads 0` reads and decodes in the same threads; any other number decodes in a stage of its own, so that many
threads may wait for storage while few fight for the cores. The decoder is asyncbatch's, the fastest here.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import absent, chunks, contend, parser

try:
    import torch
    from torchdata.nodes import Batcher, IterableWrapper, Loader, Mapper, ParallelMapper, Prefetcher
except ImportError as error:
    absent("torchdata_nodes", error)


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = (args.image_size, args.image_size)

    def read(sample: tuple[str, int]) -> tuple[bytes, int]:
        path, label = sample
        return Path(path).read_bytes(), label

    def decode(sample: tuple[bytes, int]) -> tuple[np.ndarray, int]:
        data, label = sample
        return cv2.resize(simplejpeg.decode_jpeg(data, "RGB"), size), label

    def collate(samples: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
        images, labels = zip(*samples, strict=True)
        return np.stack(images), np.array(labels)

    work = (chunks(args.data, args.batch_size) for _ in range(args.epochs))
    samples = [pair for batch in itertools.chain.from_iterable(work) for pair in zip(*batch, strict=True)]
    node: Any = IterableWrapper(samples)
    mapping: dict[str, Any] = {"in_order": True, "method": "thread", "snapshot_frequency": 1_000_000}
    if args.decode_threads:
        node = ParallelMapper(node, read, num_workers=args.threads, **mapping)
        node = ParallelMapper(node, decode, num_workers=args.decode_threads, **mapping)
    else:
        node = ParallelMapper(node, lambda sample: decode(read(sample)), num_workers=args.threads, **mapping)
    node = Mapper(Batcher(node, args.batch_size, drop_last=True), collate)
    yield from Loader(Prefetcher(node, prefetch_factor=args.prefetch, snapshot_frequency=1_000_000))


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments = parser("torchdata_nodes")
    arguments.add_argument("--threads", type=int, default=64, help="that read")
    arguments.add_argument("--decode-threads", type=int, default=0, help="0: the reading threads decode, too")
    arguments.add_argument("--prefetch", type=int, default=4, help="batches ready for the caller")
    contend("torchdata_nodes", epochs, arguments.parse_args())
