"""Numbers at the end: uint8 pixels → (pixel * scale - mean) / std, in the dtype and layout of the batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from asyncbatch._errors import ConfigError
from asyncbatch._types import Array

__all__ = ["Numbers"]

_PIXELS = np.arange(256, dtype=np.uint8)


class Numbers:
    """What each of the 256 pixel values becomes, channel by channel.

    A pixel is one byte, so a table of 256 entries a channel, computed in float64 and rounded once, is exact. Each
    channel takes the cheapest way there is to the table's own values. At 224×224×3 (µs, one core, OpenCV 5.0):

        float32: copyto 14, multiply 28, divide 30, cv2.LUT 52 with one table and 112 with three, np.take 144
        float64: copyto 21, multiply 48, divide 65, cv2.LUT 57 with one table and 116 with three, np.take 145
        float16: copyto 514, multiply 1511, cv2.LUT 55 with one table and 112 with three, np.take 142
        nchw: cv2.split 6 and then a plane at a time, np.copyto from a transposed view 44
    """

    def __init__(self, dtype: np.dtype[Any], layout: str, channels: int, scale: Any, mean: Any, std: Any) -> None:
        """Make the tables.

        Args:
            dtype: uint8, with nothing to compute, or a float dtype.
            layout: "nhwc" or "nchw", of what is written.
            channels: How many channels the pictures have.
            scale: What pixels are multiplied by; None for 1.
            mean: Subtracted next, one number or one a channel; None for 0.
            std: Divided by last, likewise; None for 1.

        Raises:
            ConfigError: The numbers are unusable, or there is something to compute and the dtype is uint8.
        """
        given = [f"{name}={value!r}" for name, value in _named(scale, mean, std) if value is not None]
        if given and dtype == np.uint8:
            raise ConfigError(f"{', '.join(given)} cannot be had in uint8; write dtype='float32' beside it")
        (factor,) = _floats("scale", scale, 1.0, 1, above=0.0)
        means = _floats("mean", mean, 0.0, channels, above=-math.inf)
        stds = _floats("std", std, 1.0, channels, above=0.0)
        if scale is None and any(means) and max(map(abs, means)) <= 1:
            warnings.warn(
                f"mean={mean!r} looks meant for pictures from 0 to 1, and without scale they go from 0 to 255; "
                "write scale=1/255 beside it",
                stacklevel=4,
            )
        whole = float(round(min(1 / factor, 2.0**53)))
        # 1/255 is no binary fraction: dividing by 255 rounds once, multiplying would twice.
        divisor = whole if whole > 0 and 1 / whole == factor else None
        scaled = _PIXELS * factor if divisor is None else _PIXELS / divisor
        with np.errstate(over="ignore"):
            tables = np.stack([((scaled - m) / s).astype(dtype) for m, s in zip(means, stds, strict=True)])
        if not np.isfinite(tables).all():
            raise ConfigError(f"{', '.join(given)} gives numbers too large for {dtype}; write dtype='float64'")
        self.is_plain = not given
        self._planar = layout == "nchw"
        self._alike = bool((tables == tables[0]).all())
        self._interleaved = np.ascontiguousarray(tables.T[:, None])  # (256, 1, C), as cv2.LUT wants it
        self._converters = [_cheapest(table, factor, divisor) for table in tables]

    def write(self, image: Array, out: Array) -> None:
        """Write `image`, (H, W, C) uint8, into `out`, (H, W, C) or (C, H, W), which must be contiguous."""
        if image.shape[2] > 1 and self._planar:
            if out.dtype == np.uint8:
                cv2.split(image, list(out))
                return
            for convert, plane, target in zip(self._converters, cv2.split(image), out, strict=True):
                convert(plane, target)
        elif self._alike:
            self._converters[0](image, out.reshape(image.shape))
        else:
            cv2.LUT(image, self._interleaved, dst=out)


def _named(scale: Any, mean: Any, std: Any) -> tuple[tuple[str, Any], ...]:
    return ("scale", scale), ("mean", mean), ("std", std)


def _floats(name: str, value: Any, default: float, channels: int, above: float) -> list[float]:
    """Return `channels` finite numbers above a bound."""
    try:
        numbers = np.asarray(default if value is None else value, dtype=np.float64)
        numbers = np.broadcast_to(numbers, channels) if numbers.shape in ((), (channels,)) else np.array([math.nan])
    except (TypeError, ValueError):
        numbers = np.array([math.nan])
    if not (np.isfinite(numbers) & (numbers > above)).all():
        wanted = "a number" if above == -math.inf else f"a number above {above:g}"
        several = f", or {channels} of them, one a channel" if channels > 1 else ""
        example = 1 / 255 if name == "scale" else 0.5
        raise ConfigError(f"{name} must be {wanted}{several}, got {value!r}; write {name}={example}")
    return [float(number) for number in numbers]


def _cheapest(table: Array, factor: float, divisor: float | None) -> Callable[[Array, Array], Any]:
    """Choose the fastest function of (pixels, out) that gives every value of the table."""
    number = table.dtype.type
    candidates: list[Callable[[Array, Array], Any]] = []
    if number is not np.float16:
        candidates += [_copy, partial(_multiply, number(factor))]
    if number is np.float32 and divisor is not None:
        candidates += [partial(_divide, number(divisor))]
    for candidate in candidates:
        result = np.empty_like(table)
        candidate(_PIXELS, result)
        if np.array_equal(result, table):
            return candidate
    return partial(_look_up, table)


def _copy(image: Array, out: Array) -> None:
    np.copyto(out, image)


def _multiply(factor: Any, image: Array, out: Array) -> None:
    np.multiply(image, factor, out=out, dtype=out.dtype)


def _divide(divisor: Any, image: Array, out: Array) -> None:
    np.divide(image, divisor, out=out, dtype=out.dtype)


def _look_up(table: Array, image: Array, out: Array) -> None:
    cv2.LUT(image, table, dst=out)
