"""tf.data, put together as its guide to performance does: parallel maps in order, a batcher, a prefetcher.

`--parallel` is how many pictures are decoded at once, 0 for AUTOTUNE; `--read-parallel 0` reads in the same calls, any
other number reads in a stage of its own, so that many calls may wait for storage while few fight for the cores. Calls
take threads of a private pool, which has one for each of them unless `--pool` says otherwise: TensorFlow's own has as
many as there are cores, and no number of calls would read more files at once. Ops use no threads of their own within.

`--decoder exact` is the arithmetic of the other contenders' decoders, bit for bit; `fast` is the DCT that TensorFlow
takes by itself, one step of 255 away in the mean pixel and no faster. The resize is bilinear with half-pixel
centres and no antialiasing, as OpenCV's is, but comes as float32, so that rounding and casting it are part of the work.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.contenders._contend import absent, chunks, contend, cores, parser

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
try:
    import tensorflow as tf
except ImportError as error:
    absent("tf_data", error)

DECODERS = {
    "exact": {"dct_method": "INTEGER_ACCURATE"},
    "fast": {"dct_method": "INTEGER_FAST"},
}


def build(args: argparse.Namespace) -> tf.data.Dataset:
    size = (args.image_size, args.image_size)

    def decode(data: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(data, channels=3, **DECODERS[args.decoder])
        return tf.cast(tf.image.resize(image, size) + 0.5, tf.uint8), label

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.io.read_file(path), label

    batches = list(chunks(args.data, args.batch_size))
    paths = list(itertools.chain.from_iterable(paths for paths, _ in batches))
    labels = np.concatenate([labels for _, labels in batches])
    decoding: dict[str, Any] = {"num_parallel_calls": args.parallel or tf.data.AUTOTUNE, "deterministic": True}
    samples = tf.data.Dataset.from_tensor_slices((paths, labels)).repeat(args.epochs)
    if args.read_parallel:
        samples = samples.map(read, num_parallel_calls=args.read_parallel, deterministic=True).map(decode, **decoding)
    else:
        samples = samples.map(lambda path, label: decode(*read(path, label)), **decoding)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = args.pool or args.read_parallel + (args.parallel or cores())
    return samples.batch(args.batch_size, drop_remainder=True).prefetch(args.prefetch).with_options(options)


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from build(args).as_numpy_iterator()


if __name__ == "__main__":
    arguments = parser("tf_data")
    arguments.add_argument("--parallel", type=int, default=0, help="pictures decoded at once; 0: AUTOTUNE")
    arguments.add_argument("--read-parallel", type=int, default=0, help="0: the decoding calls read, too")
    arguments.add_argument("--pool", type=int, default=0, help="threads; 0: one for every call")
    arguments.add_argument("--decoder", choices=list(DECODERS), default="exact")
    arguments.add_argument("--prefetch", type=int, default=4, help="batches ready for the caller")
    contend("tf_data", epochs, arguments.parse_args())
