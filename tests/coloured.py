"""Pictures that a small model learns to tell apart in seconds: noise around a colour of their class."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

COLOURS = ((150, 120, 120), (120, 150, 120), (120, 120, 150), (120, 120, 120))
"""The mean of each class, in the order of its channels as a loader has them (RGB)."""


def write_coloured(root: Path, count: int, size: int = 24) -> Path:
    """Write `count` PNGs, a folder a class; the noise is much stronger than what tells the classes apart in a pixel."""
    rng = np.random.default_rng(5)
    for index in range(count):
        label = index % len(COLOURS)
        (root / f"class_{label}").mkdir(parents=True, exist_ok=True)
        noise = rng.normal(COLOURS[label], 40, (size, size, 3))
        image = np.clip(noise, 0, 255).astype(np.uint8)[..., ::-1]
        cv2.imwrite(str(root / f"class_{label}" / f"{index:04d}.png"), image)
    return root
