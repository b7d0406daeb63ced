"""The kinds of argument that the commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Commands", "add_path", "image_size", "number", "whole"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number between two bounds, inclusive."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Return a type for argparse: a number between two bounds, inclusive."""

    def parse(text: str) -> float:
        wrong = argparse.ArgumentTypeError(f"must be a number from {least} to {most}, got {text!r}")
        try:
            value = float(text)
        except ValueError:
            raise wrong from None
        if not least <= value <= most:
            raise wrong
        return value

    return parse


def image_size(text: str) -> tuple[int, int]:
    """Read "224" or "224x320", height first, as (height, width)."""
    height, by, width = text.partition("x")
    try:
        return whole(1, 4096)(height), whole(1, 4096)(width if by else height)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be like 224, or 224x320 for a height of 224 and a width of 320, up to 4096, got {text!r}"
        ) from None


def add_path(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the user's pictures."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="your pictures: a folder with one sub-folder a class, or a text file with a picture and its label a line",
    )
