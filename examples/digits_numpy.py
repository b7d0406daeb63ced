"""Train a classifier in plain NumPy on real handwritten digits, written out as PNG files and streamed from there.

It needs `pip install scikit-learn`, which ships them.

Usage: python examples/digits_numpy.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

try:
    from sklearn.datasets import load_digits
except ImportError:
    sys.exit(__doc__)

import asyncbatch as ab

CLASSES, BATCH, EPOCHS, RATE = 10, 32, 30, 0.5


def write(folder: Path) -> None:
    """Write 1,797 digits of 8 × 8 pixels, a sub-folder for each: four in five to `train`, the others to `test`."""
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        target = folder / ("test" if index % 5 == 0 else "train") / str(label)
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{index:04d}.png"), (image * 15).astype(np.uint8))


def features(images: np.ndarray) -> np.ndarray:
    """Return each picture as a row, with a one for the bias."""
    rows = images.reshape(len(images), -1)
    return np.hstack([rows, np.ones((len(rows), 1), rows.dtype)])


def main(folder: Path) -> None:
    write(folder)
    decoder = ab.ImageDecoder((8, 8), channels="gray", dtype="float32", scale=1 / 255)
    train = ab.Loader(folder / "train", batch_size=BATCH, decoder=decoder, shuffle=True, seed=1)
    test = ab.Loader(folder / "test", batch_size=BATCH, decoder=decoder)

    weights = np.zeros((8 * 8 + 1, CLASSES), np.float32)
    for images, labels in train.epochs(EPOCHS):
        rows = features(images)
        scores = np.exp(rows @ weights)
        error = scores / scores.sum(1, keepdims=True) - np.eye(CLASSES, dtype=np.float32)[labels]
        weights -= RATE / len(rows) * rows.T @ error

    right = sum(int(((features(images) @ weights).argmax(1) == labels).sum()) for images, labels in test)
    print(f"{right} of {len(test.source)} digits right: {right / len(test.source):.1%}; a guess gives 10 %")
    train.close()
    test.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
