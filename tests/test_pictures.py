"""The whole way on real files: folder or manifest in, batches out; broken and hostile files named."""

from __future__ import annotations

import asyncio
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import Footprint
from test_train_data import draw, write_manifest

import asyncbatch as ab

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def picture_folder(tmp_path_factory):
    """90 pictures of many sizes in three class folders."""
    root = tmp_path_factory.mktemp("pictures")
    for name in CLASSES:
        (root / name).mkdir()
        draw(root / name, 30)
    return root


async def collect(iterator):
    return [batch async for batch in iterator]


def same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys == other.keys
        assert batch.images.tobytes() == other.images.tobytes()
        assert batch.labels.tobytes() == other.labels.tobytes()


def test_for_and_async_for_give_the_same_at_any_concurrency(picture_folder):
    """Three shuffled, augmented epochs are the same bytes by `for` and `async for` at concurrency 1, 8 and 64."""
    decoder = ab.ImageDecoder(
        (32, 48), dtype="float32", scale=1 / 255, transform=[ab.RandomResizedCrop((40, 60)), ab.RandomHorizontalFlip()]
    )

    def loader(concurrency, threads):
        return ab.Loader(
            picture_folder, batch_size=16, decoder=decoder, shuffle=True, seed=7, decode_threads=threads,
            reader=ab.FileReader(concurrency=concurrency),
        )  # fmt: skip

    reference = list(loader(1, 1).epochs(3))
    assert [batch.images.shape for batch in reference[:6]] == [(16, 32, 48, 3)] * 5 + [(10, 32, 48, 3)]
    assert sorted(key for batch in reference[:6] for key in batch.keys) == sorted(
        key for batch in reference[6:12] for key in batch.keys
    )
    assert reference[0].keys != reference[6].keys
    for concurrency in (1, 8, 64):
        same(list(loader(concurrency, 3).epochs(3)), reference)
        same(asyncio.run(collect(loader(concurrency, 2).epochs(3))), reference)


def test_first_lines_of_the_readme(picture_folder):
    """A folder, a batch size and a picture size are all it takes."""
    loader = ab.Loader(picture_folder, batch_size=32, image_size=(24, 36), shuffle=True)
    assert len(loader) == 3
    for images, labels in loader:
        assert images.shape[1:] == (24, 36, 3)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
    assert loader.source.class_names == CLASSES


def test_rows_are_rgb_of_their_own_sample(picture_folder):
    """Each row is its own picture, in RGB, resized as OpenCV does it, beside its own label."""
    decoder = ab.ImageDecoder((20, 30), draft=False)
    for batch in ab.Loader(picture_folder, batch_size=7, decoder=decoder, shuffle=True):
        for row, label, key, index in zip(batch.images, batch.labels, batch.keys, batch.indices, strict=True):
            expected = cv2.cvtColor(cv2.resize(cv2.imread(key), (30, 20)), cv2.COLOR_BGR2RGB)
            assert np.array_equal(row, expected)
            assert f"{os.sep}{CLASSES[label]}{os.sep}" in key
            assert index // 30 == label


def test_mixed_sizes_without_image_size_are_explained(picture_folder):
    """Pictures of different sizes make no batch: the first that differs is named, with both shapes and the remedy."""
    with pytest.raises(ab.DecodeError, match=r"picture 1\.png .*those before it .*write image_size=\(height, width\)"):
        list(ab.Loader(picture_folder, batch_size=8))


def test_pictures_of_one_size_need_no_image_size(tmp_path):
    """Without `image_size` pictures of one size come as they are."""
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((9, 11, 3), index, np.uint8))
    batch = next(iter(ab.Loader(tmp_path, batch_size=5)))
    assert batch.images.shape == (5, 9, 11, 3)
    assert batch.labels is None
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_arrays_in_memory_come_as_they_are_or_decoded():
    """`arrays` needs no files: rows as they are without a decoder, through it with one."""
    x = np.random.default_rng(0).integers(0, 256, (50, 12, 10, 3), np.uint8)
    y = np.arange(50) % 5
    plain = list(ab.Loader(ab.sources.arrays(x, y), batch_size=8, shuffle=True))
    for batch in plain:
        assert np.array_equal(batch.images, x[batch.indices])
        assert np.array_equal(batch.labels, y[batch.indices])
    batch = next(iter(ab.Loader(ab.sources.arrays(x, y), batch_size=8, image_size=(24, 20))))
    assert np.array_equal(batch.images[3], cv2.resize(x[3], (20, 24)))
    plain[0].images[:] = 0  # the batch is a copy of its own
    assert x[plain[0].indices].any()


def test_a_source_in_memory_takes_no_reader():
    """A reader for what is in memory is a mistake, and said to be one."""
    with pytest.raises(ab.ConfigError, match="nothing else is read; leave out reader"):
        ab.Loader(ab.sources.arrays(np.zeros((5, 2))), batch_size=2, reader=ab.FileReader())


def png_header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def spoil(path, how):
    content = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.touch()
    elif how == "text":
        path.write_text("<html>404 not found</html>\n" * 20)
    elif how == "huge header":
        path.write_bytes(png_header(100_000, 100_000) + content[33:])
    elif how == "wrong magic":
        path.write_bytes(b"\0\0\0\0" + content[4:])
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX file types")
@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("truncated", ab.DecodeError, ""),
        ("empty", ab.DecodeError, "empty"),
        ("text", ab.DecodeError, ""),
        ("huge header", ab.DecodeError, "max_pixels"),
        ("wrong magic", ab.DecodeError, ""),
        ("fifo", ab.ReadError, "FIFO"),
        ("directory", ab.ReadError, "directory"),
        ("vanished", ab.ReadError, "No such file"),
    ],
)
@pytest.mark.parametrize("index", [12, 13], ids=["jpeg", "png"])
def test_broken_file_is_named(tmp_path, how, kind, text, index):
    """Each way a file can be broken gives the right error with its key, in its turn, and leaves nothing over."""
    paths = draw(tmp_path, 20)
    manifest = write_manifest(tmp_path / "train.txt", paths)
    spoil(paths[index], how)
    before = Footprint()
    delivered = []
    with pytest.raises(kind) as caught:
        delivered.extend(ab.Loader(manifest, batch_size=5, image_size=(16, 16), prefetch=2).__iter__())
    assert caught.value.key == str(paths[index])
    assert caught.value.index == index
    assert str(paths[index]) in str(caught.value)
    assert text in str(caught.value)
    before.assert_same()
    batches = iter(ab.Loader(manifest, batch_size=5, image_size=(16, 16)))
    assert [next(batches).step for _ in range(2)] == [0, 1]
    with pytest.raises(kind):
        next(batches)


def test_stats_count_what_was_delivered(picture_folder):
    """`stats()` counts batches, samples and bytes, and its snapshot does not change afterwards."""
    loader = ab.Loader(picture_folder, batch_size=16, image_size=16)
    before = loader.stats()
    list(loader)
    after = loader.stats()
    size = sum(path.stat().st_size for path in picture_folder.rglob("*.*"))
    assert (after.batches, after.samples, after.bytes_read) == (6, 90, size)
    assert min(after.read_seconds, after.decode_seconds, after.wait_seconds, after.compute_seconds) > 0
    assert (before.batches, before.bytes_read, before.read_latency) == (0, 0, ab.ReadLatency())


def test_hooks_see_every_read_decode_wait_and_compute(picture_folder):
    """A hook gets one span a read and a decode, one a wait, and one a pause of the caller between two batches."""
    spans = []

    class Keep:
        def record(self, span):
            spans.append(span)

    list(ab.Loader(picture_folder, batch_size=16, image_size=16, hooks=[Keep()], decode_threads=2))
    counts = {stage: sum(span.stage == stage for span in spans) for stage in ("read", "decode", "wait", "compute")}
    assert counts == {"read": 90, "decode": 90, "wait": 6, "compute": 5}
    assert all(span.stop >= span.start for span in spans)
    assert {span.lane for span in spans if span.stage == "decode"} <= {0, 1}
    assert {span.step for span in spans if span.stage == "read"} == set(range(6))
