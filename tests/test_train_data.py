"""`train_data` against the loop that it replaces, written out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import asyncbatch as ab


def loop_by_hand(train_file, batch_size, resize_shape):
    datas, labels = [], []
    for line in train_file.read_text().splitlines():
        path, _, label = line.rpartition(" ")
        datas.append(path)
        labels.append(float(label) if "." in label else int(label))
    for i in range(len(datas) // batch_size):
        rows = slice(batch_size * i, batch_size * (i + 1))
        imgs = [cv2.resize(cv2.imread(p), resize_shape) / 255 for p in datas[rows]]
        yield np.array(imgs), np.array(labels[rows])


def draw(folder, count, extensions=(".jpg", ".png")):
    """Write pictures of many sizes, smooth with noise as photographs are; return their paths."""
    rng = np.random.default_rng(1)
    paths = []
    for index in range(count):
        height, width = rng.integers(20, 200, 2).tolist()
        small = rng.integers(0, 256, (4, 5, 3), np.uint8)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, rng.integers(0, 20, picture.shape, np.uint8))
        if index % 7 == 3:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        path = folder / f"picture {index}{extensions[index % len(extensions)]}"
        assert cv2.imwrite(str(path), picture)
        paths.append(path)
    return paths


def write_manifest(file, paths, label=lambda index: index % 10):
    file.write_text("".join(f"{path} {label(index)}\n" for index, path in enumerate(paths)))
    return file


@pytest.mark.parametrize("resize_shape", [(32, 32), (61, 47), (224, 224)])
@pytest.mark.parametrize("label", [lambda i: i % 10, lambda i: i / 7 + 0.1], ids=["int", "float"])
def test_same_bits_as_the_loop(tmp_path, resize_shape, label):
    """Pictures and labels equal the loop's in value, dtype, shape and number of batches, on JPEG and PNG."""
    train_file = write_manifest(tmp_path / "train.txt", draw(tmp_path, 45), label)
    expected = list(loop_by_hand(train_file, 10, resize_shape))
    got = list(ab.train_data(train_file, 10, resize_shape))
    assert len(expected) == len(got) == 4  # 45 pictures: the remainder of 5 is dropped
    for (images, labels), (their_images, their_labels) in zip(got, expected, strict=True):
        assert images.dtype == their_images.dtype == np.float64
        assert labels.dtype == their_labels.dtype
        assert images.tobytes() == their_images.tobytes()
        assert labels.tobytes() == their_labels.tobytes()
        assert images.shape == their_images.shape == (10, resize_shape[1], resize_shape[0], 3)


def test_fewer_pictures_than_a_batch_give_none(tmp_path):
    """As with the loop, nothing comes of a list shorter than a batch."""
    train_file = write_manifest(tmp_path / "train.txt", draw(tmp_path, 3))
    assert list(ab.train_data(train_file, 10, (8, 8))) == []


@pytest.mark.parametrize("where", ["here", "beside"])
def test_relative_paths(tmp_path, monkeypatch, where):
    """Relative paths start in the current folder, as the loop has it, or beside the manifest if they are only there."""
    (tmp_path / "lists").mkdir()
    start = tmp_path if where == "here" else tmp_path / "lists"
    names = [path.relative_to(start) for path in draw(start, 4)]
    train_file = write_manifest(tmp_path / "lists" / "train.txt", names)
    monkeypatch.chdir(tmp_path)
    images, labels = next(ab.train_data("lists/train.txt", 4, (8, 8)))
    assert images.shape == (4, 8, 8, 3)
    assert labels.tolist() == [0, 1, 2, 3]
    assert train_file.exists()


def test_swapped_arguments_are_explained(tmp_path):
    """`resize_shape` where `batch_size` belongs gets the line to write."""
    with pytest.raises(ab.ConfigError, match=r"write train_data\(train_file, batch_size, \(width, height\)\)"):
        next(ab.train_data(tmp_path / "train.txt", (8, 8), 4))


@pytest.mark.parametrize(
    ("batch_size", "resize_shape", "words"),
    [
        ("8", (64, 64), "batch_size must be a whole number"),
        (8, "64", r"resize_shape must be \(width, height\), got '64'"),
    ],
)
def test_texts_are_no_numbers(tmp_path, batch_size, resize_shape, words):
    """As they come from a command line that nobody converted."""
    train_file = write_manifest(tmp_path / "train.txt", draw(tmp_path, 3))
    with pytest.raises(ab.ConfigError, match=words):
        next(ab.train_data(train_file, batch_size, resize_shape))


def test_missing_picture_is_named(tmp_path):
    """Where the loop dies of `None / 255`, the error names the file."""
    paths = draw(tmp_path, 10)
    paths[7].unlink()
    with pytest.raises(ab.ReadError, match=r"picture 7\.png \(sample 7\): No such file or directory"):
        list(ab.train_data(write_manifest(tmp_path / "train.txt", paths), 5, (8, 8)))
