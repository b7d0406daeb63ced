"""A labelled set of drawn pictures, so that the demo needs no data: six kinds of pattern in random colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from asyncbatch.cli.terminal import CommandError

__all__ = ["KINDS", "draw_picture", "write_pictures"]

Plane = NDArray[Any]  # (H, W) float32
Picture = NDArray[np.uint8]

JPEG_QUALITY = 92  # no visible blocks, 5 to 20 KB a picture
EDGE = 3.0  # how sharply a pattern's wave is cut into two colours; higher values give jagged edges


def _stripes(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    wave: Plane = np.sin(u)
    return wave


def _checks(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    return np.sin(u) * np.sin(v)


def _rings(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    wave: Plane = np.sin(np.hypot(u, v))
    return wave


def _waves(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    return np.sin(u + rng.uniform(1.8, 2.6) * np.sin(v * rng.uniform(0.5, 0.7)))


def _dots(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    return (np.cos(u) + np.cos(v) - rng.uniform(0.5, 0.9)) * 0.7


def _stars(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    # One star in every cell of a lattice; a star is the set of points nearer than a radius that swings with the angle.
    cell = rng.uniform(9.0, 11.0)
    x, y = (u + cell / 2) % cell - cell / 2, (v + cell / 2) % cell - cell / 2
    points = 5
    swing = np.abs((np.arctan2(y, x) * points / (2 * math.pi)) % 1 - 0.5) * 2  # 0 between two points, 1 at a point
    inside: Plane = cell * (0.17 + 0.28 * swing**1.3) - np.hypot(x, y)
    return inside


PATTERNS: dict[str, Callable[[Plane, Plane, np.random.Generator], Plane]] = {
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "stars": _stars,
    "stripes": _stripes,
    "waves": _waves,
}
KINDS = tuple(PATTERNS)


def draw_picture(kind: str, rng: np.random.Generator) -> Picture:
    """Draw one picture: a pattern, turned, moved and scaled at random, in two colours, lit from one side, with noise.

    Args:
        kind: One of `KINDS`.
        rng: Where every choice comes from; the same state gives the same picture.

    Returns:
        (H, W, 3) uint8 RGB; H and W lie between 120 and 200 and differ, as photographs' do.
    """
    height, width = (int(n) for n in rng.integers(120, 201, 2))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, unit = rng.uniform(0, math.pi), 2 * math.pi / rng.uniform(20, 32)  # one wave is 20 to 32 pixels long
    centre_x, centre_y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
    along = ((x - centre_x) * math.cos(angle) + (y - centre_y) * math.sin(angle)) * unit
    across = ((y - centre_y) * math.cos(angle) - (x - centre_x) * math.sin(angle)) * unit
    ink = np.clip(0.5 + EDGE * PATTERNS[kind](along, across, rng), 0, 1)[..., None]

    dark, light = _two_colours(rng)
    picture = ink * dark + (1 - ink) * light if rng.random() < 0.5 else ink * light + (1 - ink) * dark
    direction = rng.uniform(0, 2 * math.pi)
    lighting = 1 + 0.18 * ((x / width - 0.5) * math.cos(direction) + (y / height - 0.5) * math.sin(direction))
    noise = rng.uniform(4, 14) * rng.standard_normal((height, width, 1), np.float32)
    result: Picture = np.clip(picture * lighting[..., None] + noise, 0, 255).astype(np.uint8)
    return result


def _two_colours(rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Return a dark and a light RGB colour of different hues, (3,) each, so that every pattern stands out."""
    hue = rng.uniform(0, 180)
    other = (hue + rng.uniform(50, 130)) % 180  # OpenCV counts hues from 0 to 180
    hsv = np.array([[[hue, rng.uniform(150, 230), rng.uniform(70, 140)],
                     [other, rng.uniform(40, 130), rng.uniform(215, 250)]]], np.uint8)  # fmt: skip
    dark, light = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float32)
    return dark, light


def write_pictures(root: Path, count: int, seed: int) -> Iterable[Path]:
    """Write `count` pictures as JPEG files under `root`/train and `root`/test, one folder a kind, one after another.

    Four of five go to train/. Picture i is drawn from (seed, i) alone, so a larger set begins with the smaller one.

    Yields:
        The path of each file, once it is written.
    """
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        number = i // len(KINDS)
        path = root / ("test" if number % 5 == 4 else "train") / kind / f"{kind}-{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = draw_picture(kind, np.random.default_rng((seed, i)))
        written, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not written:
            raise CommandError(f"OpenCV could not encode {path}")
        path.write_bytes(data.tobytes())
        yield path
