"""Train in a coroutine while another one reports, as a training service would.

The step blocks the event loop while it computes, as real training steps do; the loader prefetches all the same.

Usage: python examples/async_training.py MANIFEST_OR_FOLDER
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

import asyncbatch as ab


class MeanPicture:
    """The smallest model there is: it learns the mean picture, by gradient descent on the squared error."""

    def __init__(self) -> None:
        self.weights = np.zeros((64, 64, 3), np.float32)
        self.loss = float("nan")

    def step(self, images: np.ndarray) -> None:
        error = self.weights - images
        self.loss = float((error**2).mean())
        self.weights -= 0.2 * error.mean(axis=0)


async def report(loader: ab.Loader, model: MeanPicture) -> None:
    while True:
        await asyncio.sleep(0.2)
        print(f"  {loader.stats().batches} batches, loss {model.loss:.4f}")


async def train(path: str, epochs: int) -> None:
    decoder = ab.ImageDecoder((64, 64), dtype="float32", scale=1 / 255)
    model = MeanPicture()
    async with ab.Loader(path, batch_size=16, decoder=decoder, shuffle=True) as loader:
        reporter = asyncio.create_task(report(loader, model))
        async for batch in loader.epochs(epochs):
            model.step(batch.images)
        reporter.cancel()
    print(f"after {epochs} epochs of {len(loader)} batches the loss is {model.loss:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(train(sys.argv[1], epochs=5))
