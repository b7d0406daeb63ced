"""How many cores one process can feed: decoding with more and more threads, and how long each holds the interpreter.

* `img_s_N`: pictures a second that N threads decode and resize from memory; `speedup_N`: against one thread.
* `loader_img_s_N`: of the whole loader with N decode threads, from page cache.
* `python_us`: microseconds of a picture that decoding holds the interpreter: the time of the decoder less that of the
  two calls that let go of it, libjpeg's and OpenCV's. `cores_fed`, the time of a picture over it, is how many cores one
  process can feed before its threads wait for one another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

import asyncbatch as ab
from bench.contenders._contend import LABELS, cores, parser, settings
from bench.data import read_labels

SECONDS = 3.0
ROUNDS = 5


def decode_for(seconds: float, decoder: ab.ImageDecoder, pictures: list[bytes], first: int) -> int:
    row = np.empty(decoder.row_shape, decoder.row_dtype)
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        decoder.decode(pictures[(first + count) % len(pictures)], row, (0, 0, 0))
        count += 1
    return count


def speed(threads: int, decoder: ab.ImageDecoder, pictures: list[bytes]) -> float:
    with ThreadPoolExecutor(threads) as pool:
        counts = pool.map(lambda n: decode_for(SECONDS, decoder, pictures, 97 * n), range(threads))
        return sum(counts) / SECONDS


def python_us(decoder: ab.ImageDecoder, pictures: list[bytes], size: int) -> float:
    """Return how long the decoder is in Python for a picture: medians of rounds, in turn."""
    row, held = np.empty(decoder.row_shape, decoder.row_dtype), []
    full = simplejpeg.decode_jpeg(pictures[0], "RGB")
    for _ in range(ROUNDS):
        whole, calls = [], []
        for data in pictures:
            began = time.perf_counter()
            decoder.decode(data, row, (0, 0, 0))
            between = time.perf_counter()
            cv2.resize(simplejpeg.decode_jpeg(data, "RGB", buffer=full), (size, size), dst=row)
            whole.append(between - began)
            calls.append(time.perf_counter() - between)
        held.append(statistics.median(whole) - statistics.median(calls))
    return 1e6 * statistics.median(held)


def loader_speed(args: argparse.Namespace, threads: int) -> float:
    with ab.Loader(
        args.data / LABELS, batch_size=args.batch_size, image_size=args.image_size, decode_threads=threads
    ) as loader:
        batches, images = loader.epochs(3), 0
        next(batches)
        began = time.perf_counter()
        images = sum(len(batch.images) for batch in batches)
        return images / (time.perf_counter() - began)


def main() -> None:
    args = parser("scaling").parse_args()
    cv2.setNumThreads(1)
    paths, _ = read_labels(args.data)
    pictures = [Path(path).read_bytes() for path in paths[:500]]
    decoder = ab.ImageDecoder(args.image_size)
    line: dict[str, object] = {"name": "scaling", "settings": settings(args)}
    one = 0.0
    steps = sorted({1, cores(), *(2**n for n in range(1, 8) if 2**n < cores())})
    for threads in steps:
        rate = speed(threads, decoder, pictures)
        one = one or rate
        line[f"img_s_{threads}"] = round(rate, 1)
        line[f"speedup_{threads}"] = round(rate / one, 2)
        line[f"loader_img_s_{threads}"] = round(loader_speed(args, threads), 1)
    held = python_us(decoder, pictures, args.image_size)
    line["python_us"] = round(held, 1)
    line["cores_fed"] = round(1e6 / one / held, 1)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
