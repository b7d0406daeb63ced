"""Keras's `model.fit` over a `KerasDataset`, beside loading alone and training alone.

The model is small, and each of its steps ends with a sleep, which leaves the cores to the loader as a step on an
accelerator does. Training alone is `fit` on one batch that is in memory, as often.

* `loading_s`, `training_s_N`: an epoch of each alone; steps are made such that they take N % of a batch's loading.
* `fit_x_N`: wall time of `fit` over the longer of the two: 1 is the best that can be.
* `cores_x_N`: the same if nothing but cores were lacking: the CPU time of the whole machine, the mount's program
  included, for each of the two alone, spread over all cores, where that is longer than both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import asyncbatch as ab
from asyncbatch import _decode_pool
from asyncbatch.adapters.keras import KerasDataset
from asyncbatch.readers import _pool
from bench.contenders._contend import LABELS, cores, parser, settings
from bench.machine import busy_cpu_seconds

SHARES = (50, 100, 200)
EPOCHS = 2  # of each


class Accelerator(keras.callbacks.Callback):
    """Makes each step last as long as one of an accelerator would."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        time.sleep(self.seconds)


class InMemory(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """One batch, again and again."""

    def __init__(self, batch: tuple[np.ndarray, np.ndarray], count: int) -> None:
        super().__init__()
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch


class Cost(NamedTuple):
    """What an epoch takes: seconds, and those of all cores together."""

    wall: float
    cpu: float


def cost(work: Callable[[], object], epochs: int) -> Cost:
    began, busy = time.perf_counter(), busy_cpu_seconds()
    work()
    return Cost((time.perf_counter() - began) / epochs, (busy_cpu_seconds() - busy) / epochs)


def fit(model: keras.Model, data: keras.utils.PyDataset, step: float, epochs: int = EPOCHS) -> Cost:
    """Return what some epochs take, each."""
    return cost(lambda: model.fit(data, epochs=epochs, verbose=0, callbacks=[Accelerator(step)]), epochs)


def load(loader: ab.Loader) -> Cost:
    """Return what an epoch takes that nobody trains on, with as much read ahead at its end as at its beginning."""
    batches = loader.epochs()
    try:
        for _ in range(EPOCHS * len(loader)):
            next(batches)
        return cost(lambda: deque(islice(batches, EPOCHS * len(loader)), maxlen=0), EPOCHS)
    finally:
        batches.close()


def measure(args: argparse.Namespace) -> dict[str, float]:
    size = args.image_size
    layers = [keras.Input((size, size, 3)), keras.layers.AveragePooling2D(16), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
    with ab.Loader(args.data / LABELS, batch_size=args.batch_size, image_size=size, drop_last=True) as loader:
        batch = next(iter(loader))
        data, alone = KerasDataset(loader), InMemory((batch.images, batch.labels), len(loader))
        loading = load(loader)
        line = {"loading_s": round(loading.wall, 3)}
        steps = {share: share / 100 * loading.wall / len(loader) for share in SHARES}
        fit(model, alone, 0.0, epochs=1)  # compiles it
        training = {share: fit(model, alone, step) for share, step in steps.items()}
        fit(model, data, 0.0, epochs=1)  # from here on as much is read ahead at the end as was at the beginning
        for share, step in steps.items():
            train = training[share]
            longer, together = max(loading.wall, train.wall), (loading.cpu + train.cpu) / cores()
            line[f"training_s_{share}"] = round(train.wall, 3)
            line[f"fit_x_{share}"] = round(fit(model, data, step).wall / longer, 3)
            line[f"cores_x_{share}"] = round(max(longer, together) / longer, 3)
    return line


if __name__ == "__main__":
    arguments = parser("fit")
    arguments.add_argument("--equal-rank", action="store_true", help="threads that read and decode as the caller's")
    parsed = arguments.parse_args()
    if parsed.equal_rank:
        _decode_pool.work_in_the_background = _pool.work_in_the_background = lambda: None
    print(json.dumps({"name": "fit", "settings": settings(parsed), **measure(parsed)}))
