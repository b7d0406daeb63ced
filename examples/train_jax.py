"""Train a small JAX model on a folder with one sub-folder a class, its batches spread over the devices ahead of use.

It needs `pip install jax`.

Usage: python examples/train_jax.py FOLDER [EPOCHS]
"""

from __future__ import annotations

import sys

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    sys.exit(__doc__)

import numpy as np

import asyncbatch as ab
from asyncbatch.adapters.jax import JaxLoader


def logits(weights, images):
    """Return the classes' scores by the mean and the spread of each colour in each quarter of the picture."""
    pixels = images.astype(jnp.float32) / 255 - 0.5
    quarters = pixels.reshape(len(pixels), 2, 32, 2, 32, 3)
    features = jnp.concatenate([quarters.mean((2, 4)), quarters.std((2, 4))], -1).reshape(len(pixels), -1)
    hidden = jax.nn.relu(features @ weights["in"] + weights["in_bias"])
    return hidden @ weights["out"] + weights["out_bias"]


def loss(weights, images, labels):
    scores = jax.nn.log_softmax(logits(weights, images))
    return -jnp.take_along_axis(scores, labels[:, None], 1).mean()


@jax.jit
def step(weights, images, labels):
    value, gradient = jax.value_and_grad(loss)(weights, images, labels)
    return jax.tree.map(lambda weight, slope: weight - 0.3 * slope, weights, gradient), value


def main(folder: str, epochs: int = 10) -> None:
    loader = ab.Loader(folder, batch_size=8, image_size=64, shuffle=True, seed=1, drop_last=True)
    classes = len(loader.source.class_names)
    rng = np.random.default_rng(0)
    weights = {
        "in": rng.normal(0, 0.3, (24, 32)), "in_bias": np.zeros(32),
        "out": rng.normal(0, 0.3, (32, classes)), "out_bias": np.zeros(classes),
    }  # fmt: skip
    weights = jax.tree.map(jnp.float32, weights)
    with JaxLoader(loader) as batches:
        for epoch in range(epochs):
            losses, hits = [], []
            for images, labels in batches:
                hits.append((logits(weights, images).argmax(1) == labels).mean())
                weights, value = step(weights, images, labels)
                losses.append(value)
            print(f"epoch {epoch}: loss {np.mean(losses):.3f}, accuracy {np.mean(hits):.2f}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
