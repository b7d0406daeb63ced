"""Keras's `model.fit` over a `KerasDataset`, beside loading alone and training alone.

The model is small, and each of its steps ends with a sleep, which leaves the cores to the loader as a step on an
accelerator does. Training alone is `fit` on one batch that is in memory, as often.

* `loading_s`, `training_s`: an epoch of each alone; steps are made such that they take N % of a batch's loading.
* `fit_x_N`: wall time of `fit` over the longer of the two: 1 is the best that can be.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import asyncbatch as ab
from asyncbatch.adapters.keras import KerasDataset
from bench.contenders._contend import LABELS, parser, settings

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


def fit(model: keras.Model, data: keras.utils.PyDataset, step: float, epochs: int = EPOCHS) -> float:
    """Return how long some epochs take, each."""
    began = time.perf_counter()
    model.fit(data, epochs=epochs, verbose=0, callbacks=[Accelerator(step)])
    return (time.perf_counter() - began) / epochs


def load(loader: ab.Loader) -> float:
    """Return how long an epoch takes that nobody trains on, with reading ahead under way already."""
    batches = loader.epochs(1 + EPOCHS)
    for _ in range(len(loader)):
        next(batches)
    began = time.perf_counter()
    for _ in batches:
        pass
    return (time.perf_counter() - began) / EPOCHS


def measure(args: argparse.Namespace) -> dict[str, float]:
    size = args.image_size
    layers = [keras.Input((size, size, 3)), keras.layers.AveragePooling2D(16), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
    with ab.Loader(args.data / LABELS, batch_size=args.batch_size, image_size=size, drop_last=True) as loader:
        batch = next(iter(loader))
        data, alone = KerasDataset(loader), InMemory((batch.images, batch.labels), len(loader))
        loading = load(loader)
        line = {"loading_s": round(loading, 3)}
        steps = {share: share / 100 * loading / len(loader) for share in SHARES}
        fit(model, alone, 0.0, epochs=1)  # compiles it
        training = {share: fit(model, alone, step) for share, step in steps.items()}
        fit(model, data, 0.0, epochs=1)  # from here on as much is read ahead at the end as was at the beginning
        for share, step in steps.items():
            line[f"training_s_{share}"] = round(training[share], 3)
            line[f"fit_x_{share}"] = round(fit(model, data, step) / max(loading, training[share]), 3)
    return line


if __name__ == "__main__":
    parsed = parser("fit").parse_args()
    print(json.dumps({"name": "fit", "settings": settings(parsed), **measure(parsed)}))
