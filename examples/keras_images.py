"""Train a small Keras model on pictures: first by the loop that everybody writes, then by a `Loader`.

It needs `pip install 'asyncbatch[keras]'` and a backend; KERAS_BACKEND says which: torch, jax or tensorflow.

Usage: python examples/keras_images.py FOLDER [EPOCHS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

try:
    import keras
    from keras import layers
except ImportError:
    sys.exit(__doc__)

import asyncbatch as ab
from asyncbatch.adapters.keras import KerasDataset


def small_model(classes: int, scale: float) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        layers.Rescaling(scale, -0.5),
        layers.Conv2D(16, 5, 2, activation="relu"), layers.Conv2D(32, 3, 2, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(classes),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    return model


def manifest(source: ab.Source, file: Path) -> Path:
    """Write the list of pictures and labels that the loop by hand reads."""
    samples = [source[index] for index in range(len(source))]
    file.write_text("".join(f"{Path(sample.path).absolute()} {sample.label}\n" for sample in samples), encoding="utf-8")
    return file


def main(folder: str, epochs: int = 8) -> None:
    loader = ab.Loader(folder, batch_size=8, image_size=64, shuffle=True, seed=1)
    source, classes = loader.source, len(loader.source.class_names)

    # The generator that the tutorials have, in one line: float64 from 0 to 1, in the order of the file, read ahead.
    with tempfile.TemporaryDirectory() as scratch:
        listed = str(manifest(source, Path(scratch) / "train.txt"))
        model, start = small_model(classes, 1.0), time.perf_counter()
        for _ in range(epochs):
            history = model.fit(ab.train_data(listed, 8, (64, 64)), steps_per_epoch=len(source) // 8, verbose=0)
        report("train_data", history, start)

    # The loader: shuffled anew each epoch, bytes that the model scales, every sample, no number of steps.
    model, start = small_model(classes, 1 / 255), time.perf_counter()
    history = model.fit(KerasDataset(loader), epochs=epochs, verbose=0)
    report("Loader", history, start)
    loader.close()


def report(name: str, history: keras.callbacks.History, start: float) -> None:
    accuracy = history.history["accuracy"][-1]
    print(f"{name}: accuracy {accuracy:.2f} after {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
