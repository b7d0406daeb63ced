"""SPDL, put together as its documentation advises and then tuned, with batches in the order of the list.

`--stages batch` gives whole batches to the decoding threads, as SPDL's own example image_dataloading.py does;
`--stages image` decodes pictures one by one and batches them in a stage of its own, as its page of best practices
does, with reading in a thread pool of its own where `--read-threads` is set. The hand-over to the caller uses the
fast queue (`use_thread_output_queue`), and statistics are off.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import absent, chunks, contend, cores, parser

try:
    import spdl.io
    import spdl.io.utils
    from spdl.pipeline import PipelineBuilder
except ImportError as error:
    absent("spdl", error)

Decode = Callable[[Any], Any]
Collate = Callable[[Sequence[Any]], np.ndarray]


def spdl_decoder(size: int) -> tuple[Decode, Collate]:
    """Decode and resize by SPDL's FFmpeg binding: frames first, then one conversion into a batch."""
    # Stretched, as all contenders do it, and by the cheapest scaler that FFmpeg has: like OpenCV's linear resize it
    # reads few pixels for each that it writes, where FFmpeg's "bilinear" reads all.
    stretch = spdl.io.get_video_filter_desc(
        scale_width=size, scale_height=size, scale_mode=None, scale_algo="fast_bilinear", pix_fmt="rgb24"
    )

    def decode(source: str | bytes) -> Any:
        return spdl.io.decode_packets(spdl.io.demux_image(source), filter_desc=stretch)

    def collate(frames: Sequence[Any]) -> np.ndarray:
        return spdl.io.to_numpy(spdl.io.convert_frames(list(frames)))

    return decode, collate


def simplejpeg_decoder(size: int) -> tuple[Decode, Collate]:
    """Decode as asyncbatch does, so that the two pipelines can be compared apart from their decoders."""

    def decode(source: str | bytes) -> np.ndarray:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return cv2.resize(simplejpeg.decode_jpeg(data, "RGB"), (size, size))

    return decode, np.stack


def build(args: argparse.Namespace) -> PipelineBuilder:
    decode, collate = {"spdl": spdl_decoder, "simplejpeg": simplejpeg_decoder}[args.decoder](args.image_size)
    work = itertools.chain.from_iterable(chunks(args.data, args.batch_size) for _ in range(args.epochs))
    decoding = {"concurrency": args.threads, "output_order": "input"}

    def load_batch(batch):
        paths, labels = batch
        return collate([decode(path) for path in paths]), labels

    if args.stages == "batch":
        return PipelineBuilder().add_source(work).pipe(load_batch, **decoding)

    def read(sample):
        path, label = sample
        return Path(path).read_bytes(), label

    def load_image(sample):
        source, label = sample
        return decode(source), label

    def stack(samples):
        images, labels = zip(*samples, strict=True)
        return collate(images), np.array(labels)

    builder = PipelineBuilder().add_source(pair for batch in work for pair in zip(*batch, strict=True))
    if args.read_threads:
        pool = ThreadPoolExecutor(args.read_threads)
        builder.pipe(read, executor=pool, concurrency=args.read_threads, output_order="input")
    return builder.pipe(load_image, **decoding).aggregate(args.batch_size, drop_last=True).pipe(stack)


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    pipeline = (
        build(args)
        .add_sink(args.buffer)
        .build(
            num_threads=args.threads + (args.stages == "image"),  # one more, which collates
            max_failures=0,
            use_thread_output_queue=True,
            task_hook_factory=lambda _: [],
        )
    )
    with pipeline.auto_stop():
        yield from pipeline.get_iterator()


if __name__ == "__main__":
    cv2.setNumThreads(1)
    arguments = parser("spdl")
    arguments.add_argument("--threads", type=int, default=cores(), help="decoding")
    arguments.add_argument("--read-threads", type=int, default=0, help="0: decoding threads read, too")
    arguments.add_argument("--stages", choices=["batch", "image"], default="batch")
    arguments.add_argument("--decoder", choices=["spdl", "simplejpeg"], default="spdl")
    arguments.add_argument("--buffer", type=int, default=4, help="batches ready for the caller")
    parsed = arguments.parse_args()
    if parsed.decoder == "spdl":
        try:
            spdl.io.utils.get_ffmpeg_versions()  # loads FFmpeg's libraries, which no wheel brings
        except RuntimeError as error:
            absent("spdl", error)
    contend("spdl", epochs, parsed)
