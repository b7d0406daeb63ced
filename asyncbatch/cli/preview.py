"""`asyncbatch preview`: a contact sheet of what a model would see."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import asyncbatch as ab
from asyncbatch.cli.arguments import Commands, add_image_size, add_path, source_of, whole
from asyncbatch.cli.augment import USUAL, transform_of
from asyncbatch.cli.sheet import draw_sheet
from asyncbatch.cli.terminal import need, progress, require_png

__all__ = ["add_to", "run"]


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "preview",
        help="draw what a model would see of your pictures, with labels",
        description="Draws a contact sheet of your pictures as a model would see them: resized, with their labels. "
        "It shows at a glance whether labels fit, and what resizing and augmentation do to the pictures.",
        epilog="examples: asyncbatch preview photos/ -o sheet.png --keys; "
        "asyncbatch preview photos/ -o sheet.png --augment my_transforms:augment",
    )
    add_path(parser)
    parser.add_argument("-o", "--out", metavar="FILE.png", type=Path, required=True, help="where to write the sheet")
    parser.add_argument(
        "--count", metavar="N", type=whole(1, 400), default=32, help="how many pictures to show (default: 32)"
    )
    add_image_size(parser)
    parser.add_argument("--first", action="store_true", help="take the first pictures instead of some from all over")
    parser.add_argument(
        "--seed", metavar="S", type=whole(0, 2**63 - 1), default=0, help="another seed takes other pictures"
    )
    parser.add_argument(
        "--augment", nargs="?", const=USUAL, metavar="MODULE:NAME",
        help="show each picture before and after a transform of yours, which is imported from the current folder "
        "(without a name: a random crop and a flip, as most people begin with)",
    )  # fmt: skip
    parser.add_argument("--keys", action="store_true", help="write each picture's file below it too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw the sheet and say where it is."""
    need("tqdm", "cli")
    need("matplotlib", "plot")
    out: Path = arguments.out
    require_png(out, "sheet", "-o")

    if arguments.augment is None:
        decoders = [ab.ImageDecoder(arguments.image_size)]
    else:  # before and after
        transform = transform_of(arguments.augment, arguments.image_size)
        decoders = [ab.ImageDecoder(arguments.image_size), ab.ImageDecoder(arguments.image_size, transform=transform)]
    source = source_of(arguments)
    columns = [_looks(source, decoder, arguments) for decoder in decoders]
    total, count = columns[0].total, len(columns[0].captions)
    images = np.stack([image for row in zip(*(column.images for column in columns), strict=True) for image in row])
    captions = [caption for one in columns[0].captions for caption in [one, "after"][: len(columns)]]
    draw_sheet(out, images, captions, f"{count:,} of {total:,} pictures of {arguments.path}", abreast=len(columns))
    print(f"{out}: {count:,} of {total:,} pictures")
    return 0


class _Column(NamedTuple):
    images: list[NDArray[Any]]
    captions: list[str]
    total: int


def _looks(source: str | ab.Source, decoder: ab.ImageDecoder, arguments: argparse.Namespace) -> _Column:
    """Return the pictures as a decoder makes them: the same ones for each decoder."""
    images: list[NDArray[Any]] = []
    captions: list[str] = []
    with ab.Loader(source, batch_size=1, decoder=decoder, shuffle=not arguments.first, seed=arguments.seed) as loader:
        count = min(arguments.count, len(loader))
        names = getattr(loader.source, "class_names", None)
        with progress("reading", count) as bar:
            for batch in islice(loader, count):
                images.append(batch.images[0])
                caption = "" if batch.labels is None else _label(batch.labels[0], names)
                captions.append(f"{caption}\n{batch.keys[0]}" if arguments.keys else caption)
                bar.update()
        return _Column(images, captions, len(loader))


def _label(label: Any, names: Any) -> str:
    """Write a label: a class by its name, numbers shortly."""
    if names and isinstance(label, np.integer):
        return str(names[label])
    return np.array2string(np.asarray(label), precision=4, separator=", ", threshold=8)
