"""The kinds of argument that the commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

import asyncbatch as ab

__all__ = ["Commands", "add_image_size", "add_path", "image_size", "number", "source_of", "whole"]

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


def add_image_size(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says how large the pictures are that a model gets."""
    parser.add_argument(
        "--image-size", type=image_size, default=(224, 224), metavar="SIZE",
        help="what the model gets, in pixels: 224, or 224x320 as height and width (default: 224)",
    )  # fmt: skip


def add_path(
    parser: argparse.ArgumentParser,
    what: str = "your pictures: a folder with one sub-folder a class, or a text file with a picture and its label a "
    "line",
) -> None:
    """Add the argument that names the user's pictures, and those that say how a manifest is to be read."""
    parser.add_argument("path", metavar="PATH", help=what)
    how = parser.add_argument_group("how a text file is to be read, where it does not tell by itself")
    how.add_argument("--root", metavar="DIR", help="the folder that its paths start from (default: the one it is in)")
    how.add_argument(
        "--path-column", type=_column, metavar="COLUMN", help="where the paths are: a name of the header, or 0, 1, …"
    )
    how.add_argument(
        "--label-columns", type=_columns, metavar="COLUMNS",
        help='where the labels are, likewise, separated by commas; "" for none (default: all other columns)',
    )  # fmt: skip


def source_of(arguments: argparse.Namespace, *, labelled: bool = True) -> str | ab.Source:
    """Return what `add_path`'s arguments name: the path, or its manifest where something is said of that.

    Args:
        arguments: What was parsed.
        labelled: Whether labels are of any use; without, what is wrong with them does not matter.

    Raises:
        AsyncbatchError: The manifest cannot be read so.
    """
    said = {name: getattr(arguments, name) for name in ("root", "path_column", "label_columns")}
    if labelled and all(value is None for value in said.values()):
        return str(arguments.path)
    return ab.sources.manifest(arguments.path, **said if labelled else {**said, "label_columns": ()})


def _column(text: str) -> str | int:
    """Read a column's name, or its place counted from 0."""
    return int(text) if text.isascii() and text.isdigit() else text


def _columns(text: str) -> tuple[str | int, ...]:
    return tuple(_column(part.strip()) for part in text.split(",") if part.strip())
