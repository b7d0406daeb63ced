"""What the machine can do: bare threads that read, decode and resize into memory allocated before, and no more.

As many threads as cores, each filling whole batches, in whatever order they finish. With `--read-threads`, for storage
that makes its readers wait, so many other threads read whole files, each the next one, into a bounded queue. No loader
can be much faster with this decoder, so the distance to it is what a loader costs.
"""

from __future__ import annotations

import argparse
import itertools
import threading
from collections.abc import Callable, Iterator
from queue import Queue, SimpleQueue

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import TABLE, chunks, contend, cores, parser

AHEAD = 2000  # files between the threads that read and those that decode


def read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path and a buffer cost time
        return file.readall()


def make_row(args: argparse.Namespace) -> Callable[[bytes, np.ndarray], None]:
    """Return what makes a row of a file, in memory that each thread uses again."""
    size = (args.image_size, args.image_size)
    own = threading.local()

    def decode(data: bytes) -> np.ndarray:
        if data.startswith(b"\x89PNG"):
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        if not hasattr(own, "picture") or own.picture.shape != (height, width, 3):
            own.picture = np.empty((height, width, 3), np.uint8)
        return simplejpeg.decode_jpeg(data, "RGB", buffer=own.picture)

    def uint8(data: bytes, row: np.ndarray) -> None:
        cv2.resize(decode(data), size, dst=row)

    def float32(data: bytes, row: np.ndarray) -> None:
        if not hasattr(own, "small"):
            own.small = np.empty((*size, 3), np.uint8)
        cv2.LUT(cv2.resize(decode(data), size, dst=own.small), TABLE, dst=row)

    return float32 if args.dtype == "float32" else uint8


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    make = make_row(args)
    work = [batch for _ in range(args.epochs) for batch in chunks(args.data, args.batch_size)]
    turn = itertools.count()
    free: SimpleQueue[np.ndarray] = SimpleQueue()
    done: SimpleQueue[tuple[np.ndarray, np.ndarray]] = SimpleQueue()
    for _ in range(2 * args.threads):
        free.put(np.empty((args.batch_size, args.image_size, args.image_size, 3), args.dtype))

    def run() -> None:
        while (number := next(turn)) < len(work):
            paths, labels = work[number]
            images = free.get()
            for path, row in zip(paths, images, strict=True):
                data = ahead.get() if args.read_threads else read(path)
                make(data, row)
            done.put((images, labels))

    # Bytes come in any order here and labels need not fit: what is measured is the work, not the service.
    ahead: Queue[bytes] = Queue(AHEAD)
    wanted = [path for paths, _ in work for path in paths]
    read_turn = itertools.count()

    def read_ahead() -> None:
        while (number := next(read_turn)) < len(wanted):
            ahead.put(read(wanted[number]))

    threads = [threading.Thread(target=run) for _ in range(args.threads)]
    threads += [threading.Thread(target=read_ahead) for _ in range(args.read_threads)]
    for thread in threads:
        thread.start()
    for _ in work:
        images, labels = done.get()
        yield images, labels
        free.put(images)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    cv2.setNumThreads(1)
    arguments = parser("ceiling")
    arguments.add_argument("--threads", type=int, default=cores())
    arguments.add_argument("--read-threads", type=int, default=0, help="0: the same threads read")
    contend("ceiling", epochs, arguments.parse_args())
