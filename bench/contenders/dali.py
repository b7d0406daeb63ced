"""NVIDIA DALI on the CPU alone, put together as its documentation does: its own reader, decoder, resize and threads.

`--reader file` is `fn.readers.file`: a thread of its own opens and maps one file after the other, ahead of the
pipeline. Two others read several at once: `--reader io` gives the paths to `fn.io.file.read`, which reads the files of
a batch in all of the pipeline's threads, before these decode it; `--reader workers` reads in `--workers` processes of
Python (a parallel `fn.external_source`), while the pipeline decodes. `--no-mmap` is plain reading, as its documentation
advises for network file systems; without it, `io` too opens one file after the other.

The decoder is libjpeg-turbo behind nvImageCodec, as exact as the other contenders'; its fast DCT gains nothing. The
resize is linear without antialiasing, as OpenCV's is: DALI's default, with it, takes twice as long. Batches are lent
to the caller as DALI made them, without a copy.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import numpy as np

from bench.contenders._contend import absent, chunks, contend, cores, parser

try:
    from nvidia.dali import Pipeline, fn
    from nvidia.dali.types import SampleInfo
except ImportError as error:
    absent("dali", error)


class Read:
    def __init__(self, batches: list[tuple[list[str], np.ndarray]]) -> None:
        self.samples = [sample for batch in batches for sample in zip(*batch, strict=True)]

    def __call__(self, sample: SampleInfo) -> tuple[np.ndarray, np.ndarray]:
        path, label = self.samples[sample.idx_in_epoch % len(self.samples)]
        return np.fromfile(path, np.uint8), np.array(label)


def build(args: argparse.Namespace, batches: list[tuple[list[str], np.ndarray]]) -> Pipeline:
    pipeline = Pipeline(
        batch_size=args.batch_size,
        num_threads=args.threads,
        device_id=None,
        prefetch_queue_depth=args.prefetch,
        py_num_workers=args.workers,
    )
    with pipeline:
        if args.reader == "file":
            data, labels = fn.readers.file(
                files=list(itertools.chain.from_iterable(paths for paths, _ in batches)),
                labels=np.concatenate([labels for _, labels in batches]).tolist(),
                prefetch_queue_depth=args.read_ahead,
                dont_use_mmap=args.no_mmap,
            )
        elif args.reader == "workers":
            data, labels = fn.external_source(
                Read(batches), num_outputs=2, batch=False, parallel=True, prefetch_queue_depth=args.read_ahead
            )
        else:
            work = [([np.frombuffer(path.encode(), np.uint8) for path in paths], labels) for paths, labels in batches]
            paths, labels = fn.external_source(work, num_outputs=2, cycle="quiet")
            data = fn.io.file.read(paths, dont_use_mmap=args.no_mmap)
        images = fn.decoders.image(data, device="cpu")
        images = fn.resize(images, size=(args.image_size, args.image_size), antialias=False)
        pipeline.set_outputs(images, labels)
    pipeline.build()
    return pipeline


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    batches = list(chunks(args.data, args.batch_size))
    pipeline = build(args, batches)
    for _ in range(args.epochs * len(batches)):  # without a remainder, the reader's round is an epoch
        images, labels = pipeline.run()
        yield np.asarray(images.as_tensor()), np.asarray(labels.as_tensor()).reshape(-1)


if __name__ == "__main__":
    arguments = parser("dali")
    arguments.add_argument("--threads", type=int, default=cores(), help="that decode and, with --reader io, read")
    arguments.add_argument("--reader", choices=["file", "io", "workers"], default="file")
    arguments.add_argument("--no-mmap", action="store_true", help="read, instead of mapping")
    arguments.add_argument("--read-ahead", type=int, default=4, help="batches read, of --reader file and workers")
    arguments.add_argument("--workers", type=int, default=cores(), help="processes, of --reader workers")
    arguments.add_argument("--prefetch", type=int, default=4, help="batches ready for the caller")
    contend("dali", epochs, arguments.parse_args())
