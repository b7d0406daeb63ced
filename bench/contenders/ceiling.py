"""What the machine can do: bare threads that read, decode and resize into memory allocated before, and no more.

As many threads as cores, each filling whole batches, in whatever order they finish. With `--read-threads`, for storage
that makes its readers wait, so many other threads read whole files, each the next one, into a bounded queue. No loader
can be much faster with this decoder, so the distance to it is what a loader costs.
"""

from __future__ import annotations

import argparse
import itertools
import threading
from collections.abc import Iterator
from queue import Queue, SimpleQueue

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import chunks, contend, cores, parser

AHEAD = 2000  # files between the threads that read and those that decode


def read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path and a buffer cost time
        return file.readall()


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = (args.image_size, args.image_size)
    work = [batch for _ in range(args.epochs) for batch in chunks(args.data, args.batch_size)]
    turn = itertools.count()
    free: SimpleQueue[np.ndarray] = SimpleQueue()
    done: SimpleQueue[tuple[np.ndarray, np.ndarray]] = SimpleQueue()
    for _ in range(2 * args.threads):
        free.put(np.empty((args.batch_size, *size, 3), np.uint8))

    def run() -> None:
        while (number := next(turn)) < len(work):
            paths, labels = work[number]
            images = free.get()
            for path, row in zip(paths, images, strict=True):
                data = ahead.get() if args.read_threads else read(path)
                cv2.resize(simplejpeg.decode_jpeg(data, "RGB"), size, dst=row)
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
