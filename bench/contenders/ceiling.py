"""What the machine can do: bare threads that read, decode and resize into memory allocated before, and no more.

As many threads as cores, each filling whole batches, in whatever order they finish. No loader can be faster with
this decoder, so the distance to it is what a loader costs.
"""

from __future__ import annotations

import argparse
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import chunks, contend, cores, parser


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
                cv2.resize(simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB"), size, dst=row)
            done.put((images, labels))

    threads = [threading.Thread(target=run) for _ in range(args.threads)]
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
    contend("ceiling", epochs, arguments.parse_args())
