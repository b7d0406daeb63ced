"""A small neural network in NumPy: enough to show that the batches teach something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Classifier", "features"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

GRID = 48  # cells a side that pictures are averaged down to; their finest waves are 4 cells long in a 96-pixel picture
RADII = 30  # rings cut through the spectrum; the corners, beyond GRID / 2, hold noise only
ANGLES = 48  # places on half a ring; the other half of a real picture's spectrum says the same


def features(images: Floats) -> Floats:
    """Describe pictures by the waves that they are made of, wherever the pattern lies and however it is turned.

    Pictures turn grey, are averaged down, freed of their mean and faded out towards the edges (a Hann window, lest
    the edges look like waves), and are Fourier transformed. The magnitudes forget where things were. They are read
    along rings around the centre, on which turning the picture only shifts the values; so the magnitudes of a second
    Fourier transform, along the rings, forget how the picture was turned. Dividing by the overall strength forgets
    its contrast. What is left tells stripes (one peak a half ring) from checks (two), rings (an even ring), and so on.

    Args:
        images: (B, H, W, 3) float32 in [0, 1]; H and W are multiples of 48.

    Returns:
        (B, 750) float32, each row of mean 0 and standard deviation 1.
    """
    count, height, width, _ = images.shape
    cells = images.reshape(count, GRID, height // GRID, GRID, width // GRID * 3).mean((2, 4))
    spectrum = np.abs(np.fft.rfft2((cells - cells.mean((1, 2), keepdims=True)) * _WINDOW))
    rings = np.abs(np.fft.rfft(spectrum[:, _ROWS, _COLUMNS], axis=2)).reshape(count, -1)
    result: Floats = ((rings - rings.mean(1, keepdims=True)) / (rings.std(1, keepdims=True) + 1e-9)).astype(np.float32)
    return result


_WINDOW = np.outer(np.hanning(GRID), np.hanning(GRID)).astype(np.float32)
_RADIUS, _ANGLE = np.linspace(1, GRID / 2 - 0.5, RADII)[:, None], np.arange(ANGLES) * (np.pi / ANGLES)
_ROWS = np.round(_RADIUS * np.cos(_ANGLE)).astype(int) % GRID  # negative frequencies sit at the end of the axis
_COLUMNS = np.round(_RADIUS * np.sin(_ANGLE)).astype(int)


class Classifier:
    """A network of one hidden layer on `features`, trained by Adam on the cross-entropy of a softmax.

    Args:
        classes: How many classes there are.
        seed: What the first weights are drawn from.
        hidden: Width of the hidden layer.
        rate: Adam's step size.
        decay: Decoupled weight decay (Loshchilov and Hutter, 2019): keeps a few hundred pictures from being learnt
            by heart.
    """

    def __init__(self, classes: int, seed: int, hidden: int = 128, rate: float = 2e-3, decay: float = 0.05) -> None:
        rng = np.random.default_rng(seed)
        width = RADII * (ANGLES // 2 + 1)
        self._weights: list[Floats] = [
            (rng.standard_normal((width, hidden)) * np.sqrt(2 / width)).astype(np.float32),
            np.zeros(hidden, np.float32),
            (rng.standard_normal((hidden, classes)) * np.sqrt(2 / hidden)).astype(np.float32),
            np.zeros(classes, np.float32),
        ]
        self._means = [np.zeros_like(w) for w in self._weights]
        self._squares = [np.zeros_like(w) for w in self._weights]
        self._steps = 0
        self._rate, self._decay = rate, decay

    def learn(self, images: Floats, labels: Ints) -> float:
        """Take one step down the gradient on a batch.

        Args:
            images: (B, H, W, 3) float32 in [0, 1].
            labels: (B,) int64.

        Returns:
            The batch's mean cross-entropy before the step, in nats.
        """
        x = features(images)
        hidden, chances = self._forward(x)
        rows = np.arange(len(x))
        loss = float(-np.log(chances[rows, labels] + 1e-9).mean())

        error = chances.copy()
        error[rows, labels] -= 1
        error /= len(x)
        back = error @ self._weights[2].T * (hidden > 0)
        self._adam([_product(x.T, back), back.sum(0), hidden.T @ error, error.sum(0)])
        return loss

    def predict(self, images: Floats) -> Ints:
        """Return the likeliest class of each picture, (B,) int64, for `images` as in `learn`."""
        _, chances = self._forward(features(images))
        guesses: Ints = chances.argmax(1)
        return guesses

    def _forward(self, x: Floats) -> tuple[Floats, Floats]:
        into, bias, out, offset = self._weights
        hidden = np.maximum(_product(x, into) + bias, 0)
        scores = hidden @ out + offset
        chances = np.exp(scores - scores.max(1, keepdims=True))
        return hidden, chances / chances.sum(1, keepdims=True)

    def _adam(self, gradients: list[Floats]) -> None:
        """Move the weights as Adam does (Kingma and Ba, 2015), with the paper's constants, and let them decay."""
        self._steps += 1
        for i, gradient in enumerate(gradients):
            self._means[i] += 0.1 * (gradient - self._means[i])
            self._squares[i] += 0.001 * (gradient**2 - self._squares[i])
            mean, square = self._means[i] / (1 - 0.9**self._steps), self._squares[i] / (1 - 0.999**self._steps)
            self._weights[i] -= self._rate * (mean / (np.sqrt(square) + 1e-8) + self._decay * self._weights[i])


def _product(left: Floats, right: Floats) -> Floats:
    """Return the matrix product, in pieces that are too small for OpenBLAS to share out among threads of its own.

    Those threads spin while they wait for each other, on the cores that decode: on 2 cores training took 2.5 times as
    long with them. OpenBLAS starts them for more than 262,144 multiplications (its `interface/gemm.c`).
    """
    width = max(1, 262_144 // left.size)
    return np.concatenate([left @ right[:, i : i + width] for i in range(0, right.shape[1], width)], axis=1)
