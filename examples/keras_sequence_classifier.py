"""Classify sequences of words with Keras, from arrays in memory to accuracy and F1.

The sequences are made up, so that nothing is downloaded: 100 words of 10,000 each, a few of which tell the class.
For the real films' reviews of the tutorials the two lines that make `x` and `y` become:

    (x, y), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=10_000)
    x, x_test = (keras.utils.pad_sequences(part, maxlen=100) for part in (x, x_test))

It needs `pip install 'asyncbatch[keras]' scikit-learn` and a backend; KERAS_BACKEND says which: torch, jax, …

Usage: python examples/keras_sequence_classifier.py EPOCHS
"""

from __future__ import annotations

import sys

import numpy as np

try:
    import keras
    from keras import layers
    from sklearn.metrics import accuracy_score, f1_score
except ImportError:
    sys.exit(__doc__)

import asyncbatch as ab
from asyncbatch.adapters.keras import KerasDataset

WORDS, LENGTH, BATCH = 10_000, 100, 64


def sequences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 100) int32 words, frequent ones more often, and (count,) classes: each has 50 words of its own."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    x = np.minimum(rng.zipf(1.3, (count, LENGTH)), WORDS - 1)
    telling = rng.random((count, LENGTH)) < 0.3
    x[telling] = (5_000 + 50 * y[:, None] + rng.integers(0, 50, (count, LENGTH)))[telling]
    return x.astype(np.int32), y


def main(epochs: int) -> None:
    keras.utils.set_random_seed(0)
    x, y = sequences(4_000, seed=1)
    x_test, y_test = sequences(1_000, seed=2)

    # Drawn with replacement for ever, as `numpy.random.randint` would pick them for each batch.
    drawn = ab.Loader(ab.sources.arrays(x, y), batch_size=BATCH, sampler=ab.sampling.WithReplacement(), seed=3)
    test = ab.Loader(ab.sources.arrays(x_test, y_test), batch_size=BATCH)

    model = keras.Sequential([
        layers.Embedding(WORDS, 32), layers.GRU(32, return_sequences=True), layers.GRU(32),
        layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    train = KerasDataset(drawn, labels="binary", repeat=True)
    model.fit(train, steps_per_epoch=25, epochs=epochs, verbose=2)

    loss, accuracy = model.evaluate(KerasDataset(test, labels="binary"), verbose=0)
    print(f"test loss {loss:.3f}, accuracy {accuracy:.3f}")
    classes = (model.predict(KerasDataset(test), verbose=0)[:, 0] > 0.5).astype(int)
    print(f"accuracy {accuracy_score(y_test, classes):.3f}, F1 {f1_score(y_test, classes):.3f}; a guess gives 0.5")
    drawn.close()
    test.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(int(sys.argv[1]))
