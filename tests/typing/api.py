"""Public usage as a type checker must accept it. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import asyncbatch as ab

Array = NDArray[Any]


def synchronous() -> None:
    with ab.Loader(Path("pictures"), batch_size=32, image_size=(224, 224), shuffle=True, seed=7) as loader:
        for images, labels in loader:
            assert_type(images, Array)
            assert_type(labels, Array | None)
        for batch in loader.epochs(3):
            assert_type(batch, ab.Batch)
            assert_type(batch.keys, tuple[str, ...])
            assert_type(batch.epoch, int)
        assert_type(len(loader), int)
        assert_type(loader.stats(), ab.Stats)


async def asynchronous() -> None:
    async with ab.Loader("train.txt", batch_size=32, image_size=224) as loader:
        async for images, labels in loader:
            assert_type(images, Array)
            assert_type(labels, Array | None)


def own_decoder(data: bytes) -> Array:
    return np.frombuffer(data, np.uint8)


def from_a_bucket() -> None:
    source = ab.sources.objects("s3://bucket/train", manifest=Path("train.txt"), options={"region": "eu-west-1"})
    assert_type(len(source), int)
    ab.Loader(source, batch_size=32, reader=ab.ObjectReader(concurrency=64, timeout=5, hedge=0.05))
    ab.Loader("gs://bucket/train", batch_size=32)


class OwnReader:
    concurrency = 8

    async def read(self, sample: ab.Sample) -> bytes:
        return sample.key.encode()


class OwnReaderFactory:
    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ab.Reader, None]:
        yield OwnReader()


class OwnSource:
    fingerprint = "own"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> ab.Sample:
        return ab.Sample(key=str(index), label=index)


class OwnHook:
    def record(self, span: ab.Span) -> None:
        print(span.stage, span.stop - span.start)


def noisy(image: Array, rng: np.random.Generator) -> Array:
    noise: Array = rng.integers(0, 3, image.shape, np.uint8)
    return np.add(image, noise)


def own_parts() -> None:
    ab.Loader(OwnSource(), batch_size=2, decoder=own_decoder, reader=OwnReader(), hooks=[OwnHook()])
    ab.Loader(OwnSource(), batch_size=2, decoder=own_decoder, reader=OwnReaderFactory())
    ab.Loader(ab.sources.arrays(np.zeros((8, 3))), batch_size=2)
    ab.Loader(ab.sources.manifest("train.csv", label_columns=["x", "y"]), batch_size=2, reader=ab.FileReader())
    ab.Loader(
        ab.sources.folder("pictures"),
        batch_size=2,
        decoder=ab.ImageDecoder(
            (224, 224), dtype="float32", scale=1 / 255, transform=[ab.RandomHorizontalFlip(), noisy]
        ),
    )


def tolerant() -> None:
    ab.Loader("train.txt", batch_size=2, on_error="raise")
    ab.Loader("train.txt", batch_size=2, on_error=ab.Skip())
    loader = ab.Loader("train.txt", batch_size=2, on_error=ab.Replace(limit=5))
    try:
        for batch in loader:
            assert_type(batch.errors, tuple[ab.SampleError, ...])
    except ab.ErrorLimitExceeded as error:
        assert_type(error.errors, tuple[ab.SampleError, ...])
    assert_type(loader.stats().errors, tuple[ab.SampleError, ...])
    assert_type(loader.stats().retries, int)


def drop_in() -> None:
    for images, labels in ab.train_data("train.txt", 32, (224, 224)):
        assert_type(images, Array)
        assert_type(labels, Array | None)


class OwnItems:
    fingerprint = "own items"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int, /) -> ab.Sample:
        return ab.Sample(str(index))

    def fetch(self, index: int, /) -> tuple[bytes, int]:
        return b"", index


def items() -> None:
    own: ab.ItemSource = OwnItems()
    ab.Loader(own, batch_size=2)
    ab.Loader(ab.sources.parquet(Path("x.parquet"), label=None, keep="1GB"), batch_size=2)
    ab.Loader(ab.sources.items([(np.zeros((2, 2)), 0)], label=None, fingerprint="release 3"), batch_size=2)
