"""The loop by hand that asyncbatch replaces, as its users write it: OpenCV, float64, scaled to 0–1, BGR."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from bench.contenders._contend import LABELS, contend, parser
from bench.data import read_labels


def read_data(train_file: Path) -> tuple[list[str], list[int]]:
    return read_labels(train_file.parent)


def train_data(train_file, batch_size, resize_shape):
    datas, labels = read_data(train_file)
    for i in range(len(datas) // batch_size):
        rows = slice(batch_size * i, batch_size * (i + 1))
        imgs = [cv2.resize(cv2.imread(p), resize_shape) / 255 for p in datas[rows]]
        yield np.array(imgs), np.array(labels[rows])


def epochs(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for _ in range(args.epochs):
        batches = train_data(args.data / LABELS, args.batch_size, (args.image_size, args.image_size))
        yield from itertools.islice(batches, args.batches)


if __name__ == "__main__":
    arguments = parser("loop")
    arguments.add_argument("--batches", type=int, help="of each epoch; on slow storage all of them take minutes")
    contend("loop", epochs, arguments.parse_args())
