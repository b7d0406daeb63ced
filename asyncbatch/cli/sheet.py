"""The contact sheet: pictures as the model sees them, in a grid, each with its caption."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from asyncbatch.cli.lettering import Lettering
from asyncbatch.cli.terminal import need

__all__ = ["draw_sheet"]

DPI = 100
SIDE = 176  # pixels that the longer side of a picture gets on the sheet, about
GAP, HEAD, LINE = 14, 64, 17  # pixels between pictures, above them, and a line of caption
INK, GREY, WRONG = "#222222", "#666666", "#D55E00"  # vermillion of Okabe and Ito: told from grey by the colour-blind


def draw_sheet(
    path: Path,
    images: NDArray[np.uint8],
    captions: Sequence[str],
    title: str,
    wrong: Collection[int] = (),
    *,
    abreast: int = 1,
) -> None:
    """Write a contact sheet as a PNG file.

    Small pictures are enlarged by whole factors without smoothing, so that every pixel that the model gets is seen;
    large ones are reduced by averaging.

    Args:
        path: Where to write.
        images: (N, H, W, 3) uint8 RGB, or (N, H, W, 1) grey.
        captions: N texts of one or two lines each.
        title: What is seen.
        wrong: Which pictures to mark, by a frame and a cross.
        abreast: How many pictures belong together, side by side; N is a multiple of it.
    """
    cells = [_resized(image) for image in images]
    tall, wide = cells[0].shape[:2]
    columns = min(len(cells), max(4, round(math.sqrt(1.5 * len(cells)) / abreast) * abreast))
    rows = math.ceil(len(cells) / columns)
    foot = LINE * max(1 + caption.count("\n") for caption in captions) + GAP
    height, width = HEAD + rows * (tall + foot), max(columns * (wide + GAP) + GAP, 640)

    canvas = np.full((height, width, 3), 255, np.uint8)
    places = [(HEAD + i // columns * (tall + foot), GAP + i % columns * (wide + GAP)) for i in range(len(cells))]
    for i, (cell, (top, left)) in enumerate(zip(cells, places, strict=True)):
        canvas[top : top + tall, left : left + wide] = cell
        if i in wrong:
            colour = tuple(int(WRONG[k : k + 2], 16) for k in (1, 3, 5))
            cv2.rectangle(canvas, (left - 3, top - 3), (left + wide + 2, top + tall + 2), colour, 4)

    with need("matplotlib.style", "plot").context("default", after_reset=True):  # whatever the user's matplotlibrc says
        figure = need("matplotlib.figure", "plot").Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        need("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
        figure.figimage(canvas)
        letters = Lettering(figure)

        def write(text: str, left: float, top: float, room: float, size: float, colour: str) -> None:
            figure.text(left / width, 1 - top / height, letters.fit(text, room, size), color=colour, va="top",
                        fontsize=size, fontfamily=letters.families, parse_math=False)  # fmt: skip

        write(title, GAP, 14, width - 2 * GAP, 13, INK)
        size = f"{images.shape[1]} pixels high, {images.shape[2]} wide"
        write(size, GAP, 38, width - 2 * GAP, 9, GREY)
        for i, (caption, (top, left)) in enumerate(zip(captions, places, strict=True)):
            for line, text in enumerate(caption.split("\n")):
                ink = WRONG if i in wrong else INK if line == 0 else GREY
                write(text, left, top + tall + 5 + line * LINE, wide, 9, ink)
        figure.savefig(path, format="png", dpi=DPI)


def _resized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture at about SIDE pixels, (h, w, 3)."""
    height, width = image.shape[:2]
    rgb = np.broadcast_to(image, (height, width, 3))
    factor = SIDE / max(height, width)
    factor = round(factor) if factor >= 1 else factor
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_NEAREST if factor >= 1 else cv2.INTER_AREA)  # type: ignore[return-value]
