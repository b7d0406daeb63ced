"""The loop that this project replaces, under its own name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from asyncbatch._arguments import require_whole
from asyncbatch._errors import ConfigError
from asyncbatch._types import Array
from asyncbatch.decoders import ImageDecoder
from asyncbatch.loader import Loader
from asyncbatch.sources import manifest

__all__ = ["train_data"]


def train_data(
    train_file: str | os.PathLike[str], batch_size: int, resize_shape: tuple[int, int]
) -> Iterator[tuple[Array, Array | None]]:
    """Yield one epoch of batches, bit for bit those of the generator that many training scripts write by hand.

    A drop-in for

        def train_data(train_file, batch_size, resize_shape):
            datas, labels = read_data(train_file)
            for i in range(len(datas) // batch_size):
                rows = slice(batch_size * i, batch_size * (i + 1))
                imgs = [cv2.resize(cv2.imread(p), resize_shape) / 255 for p in datas[rows]]
                yield np.array(imgs), np.array(labels[rows])

    with reading, decoding and the caller's compute at the same time. New code had better use `Loader`: uint8 rows take
    an eighth of the memory, and it shuffles.

    Args:
        train_file: A manifest, see `sources.manifest`. As in the loop, relative paths are relative to the current
            folder; if the first picture is not there but beside the manifest, to the manifest's folder.
        batch_size: Samples a batch. The remainder that does not fill a batch is left out, as in the loop.
        resize_shape: (width, height) in pixels, as OpenCV has it.

    Yields:
        images: (B, height, width, 3) float64, BGR, 0 to 1.
        labels: (B,) int64 or float64; None for a manifest without labels.

    Raises:
        ConfigError: `batch_size` is no whole number above 0, or `resize_shape` no pair; raised, as the rest, when the
            first batch is asked for.
        SourceError: The manifest is missing, or a line of it cannot be understood.
        SampleError: A picture cannot be read or decoded; the loop would have stopped here too, with less of a message.
    """
    if not isinstance(resize_shape, Sequence) or isinstance(resize_shape, str) or len(resize_shape) != 2:
        raise ConfigError(
            f"resize_shape must be (width, height), got {resize_shape!r}; "
            "write train_data(train_file, batch_size, (width, height))"
        )
    batch_size = require_whole("batch_size", batch_size, least=1, example=32)
    width, height = resize_shape
    root: Path | None = Path.cwd()
    source = manifest(train_file, root=root)
    if not Path(source[0].path).exists() and Path(manifest(train_file)[0].path).exists():
        root = None  # beside the manifest
        source = manifest(train_file)
    if source.labels is not None and source.labels.dtype.kind == "f":
        source = manifest(train_file, root=root, label_dtype="float64")
    if len(source) < batch_size:
        return
    decoder = ImageDecoder((height, width), channels="bgr", dtype="float64", scale=1 / 255, draft=False)
    # A float64 batch is large, 39 MB for 32 pictures of 224×224: two ahead cover the jitter at half the memory.
    loader = Loader(source, batch_size=batch_size, decoder=decoder, drop_last=True, prefetch=2)
    yield from map(tuple, loader)  # and nothing more: of a generator, Keras takes no batch that is more than a tuple
