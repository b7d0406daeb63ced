"""`sources.arrays`: rows that are in memory, served as they are."""

from __future__ import annotations

import numpy as np
import pytest

import asyncbatch as ab
from asyncbatch import ConfigError, SourceError, sources
from asyncbatch._types import MemorySource


def test_rows_and_labels():
    """Samples are named by index and carry their label; `take` gives the rows in the order asked for."""
    x = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    source = sources.arrays(x, [5, 6, 7, 8])
    assert isinstance(source, MemorySource)
    assert len(source) == 4
    assert (source[2].key, source[2].label, source[2].path) == ("2", 7, "")
    assert source[-1] == source[3] == source[np.int64(3)]
    taken = source.take(np.array([3, 0, 3]))
    assert taken.dtype == np.uint8
    np.testing.assert_array_equal(taken, x[[3, 0, 3]])


def test_take_gives_a_new_array():
    """What `take` returns may be written to without changing the source."""
    x = np.zeros((4, 2))
    taken = sources.arrays(x).take(np.array([0, 1, 2, 3]))
    taken += 1
    assert not x.any()


def test_without_labels():
    """Without y there are no labels."""
    source = sources.arrays(np.zeros((2, 3)))
    assert source.labels is None
    assert source[0].label is None


@pytest.mark.parametrize("index", [2, -3])
def test_indices_out_of_range(index):
    """Indices out of range raise IndexError, as in sequences, from both ways in."""
    source = sources.arrays(np.zeros((2, 3)))
    with pytest.raises(IndexError):
        source[index]
    with pytest.raises(IndexError):
        source.take(np.array([index]))


def test_a_slice_is_no_index():
    """A slice is a TypeError rather than a strange sample."""
    with pytest.raises(TypeError):
        sources.arrays(np.zeros((2, 3)))[0:1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("y", "dtype", "shape", "values"),
    [
        (np.array([1, 2, 3], np.uint8), "int64", (3,), [1, 2, 3]),
        (np.array([1, 2, 3], np.int32), "int64", (3,), [1, 2, 3]),
        (np.array([[1], [2], [3]], np.uint64), "int64", (3, 1), [[1], [2], [3]]),
        (np.array([[1, 0]] * 3, np.uint8), "uint8", (3, 2), [[1, 0]] * 3),
        (np.array([1, 2, 3], np.float16), "float16", (3,), [1, 2, 3]),
        (np.array([1, 2, 3], np.float64), "float64", (3,), [1, 2, 3]),
        (np.array([True, False, True]), "bool", (3,), [True, False, True]),
        ([1, 2, 3], "int64", (3,), [1, 2, 3]),
        ([0.5, 1.5, 2.5], "float32", (3,), [0.5, 1.5, 2.5]),
        (range(3), "int64", (3,), [0, 1, 2]),
    ],
)
def test_label_dtypes(y, dtype, shape, values):
    """Class indices become int64 in the shape they have; other arrays keep their dtype, and lists have none."""
    labels = sources.arrays(np.zeros((3, 2)), y).labels
    assert labels is not None
    assert (labels.dtype, labels.shape) == (dtype, shape)
    assert labels.tolist() == values


def test_string_labels_are_classes():
    """Strings become the indices of their sorted names."""
    source = sources.arrays(np.zeros((3, 2)), ["dog", "ant", "dog"])
    assert source.class_names == ("ant", "dog")
    assert [source[i].label for i in range(3)] == [1, 0, 1]


def test_arrays_are_not_copied(tmp_path):
    """An array stays the caller's own, so that later changes show, and a memory-mapped one stays mapped."""
    x = np.zeros((3, 2))
    source = sources.arrays(x)
    x[1] = 7
    assert source.take(np.array([1])).tolist() == [[7, 7]]
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    source = sources.arrays(mapped)
    assert source.x is mapped
    taken = source.take(np.array([1]))
    assert type(taken) is np.ndarray
    assert taken.tolist() == [[7, 7]]


@pytest.mark.parametrize("given", [str, lambda path: path, lambda path: np.load(path, mmap_mode="r")])
def test_mapped_files(tmp_path, given):
    """A .npy file, by its path or mapped by the caller, gives the batches of the array that was saved in it."""
    x = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), np.uint8)
    y = np.arange(50, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    source = sources.arrays(given(tmp_path / "x.npy"), given(tmp_path / "y.npy"))
    assert isinstance(source.x, np.memmap)
    assert not source.x.flags.writeable
    assert source.fingerprint == sources.arrays(x, y).fingerprint
    for batch in ab.Loader(source, batch_size=8, shuffle=True):
        assert type(batch.images) is np.ndarray
        assert batch.images.flags.writeable
        np.testing.assert_array_equal(batch.images, x[batch.indices])
        assert batch.labels.dtype == np.int64
        np.testing.assert_array_equal(batch.labels, batch.indices)


def test_files_that_are_no_arrays(tmp_path):
    """A path to something else is a SourceError that says what to write; pickled objects are never loaded."""
    np.save(tmp_path / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    for name in ("objects.npy", "text.npy", "empty.npy"):
        with pytest.raises(SourceError, match=r"no \.npy file of numbers.*write np\.save"):
            sources.arrays(tmp_path / name)
    with pytest.raises(SourceError, match="does not exist"):
        sources.arrays("missing.npy")
    with pytest.raises(SourceError, match="is not a file"):
        sources.arrays(tmp_path)


def test_whatever_numpy_takes():
    """Nested lists and objects with the array protocol or the buffer protocol are taken."""

    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.ones((2, 2), np.float32)

    assert sources.arrays([[1, 2], [3, 4]]).take(np.array([1])).tolist() == [[3, 4]]
    assert sources.arrays(Tensor()).x.dtype == np.float32
    assert len(sources.arrays(memoryview(b"abc"))) == 3


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), [1, 2], r"y has 2 labels for 3 pictures"),
        (np.zeros(()), None, r"x must be an array of numbers.*shape \(\)"),
        (np.zeros((0, 2)), None, r"x has no rows: its shape is \(0, 2\)"),
        (np.array([object()]), None, r"dtype object"),
        ("pictures/", None, r"sources\.folder"),
        (["a.jpg", "b.jpg"], None, r"for files sources\.folder\(…\) or sources\.manifest\(…\)"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], None, r"x cannot be made an array.*np\.stack"),
        (np.zeros((2, 2)), 3, r"one label a picture"),
        (np.zeros((2, 2)), [object(), None], r"dtype object"),
        (np.zeros((2, 2)), [["a"], ["b"]], r"one label a picture"),
        (np.zeros((2, 2)), [[1], [2, 3]], r"y cannot be made an array"),
        (np.zeros((1, 2)), np.array([2**63], np.uint64), r"y holds 9223372036854775808, which does not fit int64"),
    ],
)
def test_unusable_arrays(x, y, message):
    """What cannot be served is a ConfigError that says what was given and what is wanted."""
    with pytest.raises(ConfigError, match=message):
        sources.arrays(x, y)


def test_fingerprint_follows_contents():
    """The fingerprint depends on contents, shapes, dtypes, labels and names, and on nothing else."""
    x = np.arange(12, dtype=np.int16).reshape(3, 4)
    fingerprint = sources.arrays(x).fingerprint
    assert sources.arrays(x.copy()).fingerprint == fingerprint
    assert sources.arrays(np.asfortranarray(x)).fingerprint == fingerprint
    assert sources.arrays(x.astype(">i2")).fingerprint == fingerprint
    changed = x.copy()
    changed[1, 1] += 1
    others = [
        sources.arrays(changed),
        sources.arrays(x.reshape(3, 2, 2)),
        sources.arrays(x.view(np.uint16)),
        sources.arrays(x, [0, 1, 1]),
        sources.arrays(x, [0, 1, 0]),
        sources.arrays(x, ["a", "b", "a"]),
        sources.arrays(x, ["a", "c", "a"]),
    ]
    assert len({fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


def test_fingerprint_of_large_arrays_is_bounded():
    """Of a large array evenly spaced rows are hashed, the first and the last among them, and rows between are not."""
    x = np.zeros((5, 4 << 20), np.uint8)  # 20 MiB, of which 16 are hashed: rows 0, 1, 2 and 4
    fingerprints = []
    for row in (None, 0, 3, 4):
        changed = x.copy()
        if row is not None:
            changed[row, 100] = 1
        fingerprints.append(sources.arrays(changed).fingerprint)
    untouched, first, between, last = fingerprints
    assert between == untouched
    assert len({untouched, first, last}) == 3


def test_fingerprint_is_made_once():
    """The fingerprint is computed when it is first asked for and then kept."""
    source = sources.arrays(np.zeros((2, 2)))
    assert "fingerprint" not in vars(source)
    assert source.fingerprint is source.fingerprint


def test_repr_says_what_it_is():
    """The repr gives shapes and dtypes."""
    assert repr(sources.arrays(np.zeros((2, 3), np.uint8))) == "ArraySource(x (2, 3) uint8, no labels)"
    assert repr(sources.arrays(np.zeros((2, 3), "f4"), [0, 1])).endswith("x (2, 3) float32, labels (2,) int64)")
