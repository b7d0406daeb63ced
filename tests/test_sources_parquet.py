"""`sources.parquet`: pictures and labels in Parquet files, as Hugging Face publishes them."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
import threading

import cv2
import numpy as np
import pytest
from fakes import number, wait_until

import asyncbatch as ab
from asyncbatch import sources
from asyncbatch._chunked import ChunkedSample
from asyncbatch.readers._chunks import ChunkReader

pa = pytest.importorskip("pyarrow", reason="pip install 'asyncbatch[parquet]'")
pq = pytest.importorskip("pyarrow.parquet")

SIZE, GROUP = 50, 7
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(index):
    image = np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def pictures(indices, kind=STRUCT):
    data = [png(index) for index in indices]
    return pa.array([{"bytes": one, "path": "x.png"} for one in data] if kind is STRUCT else data, kind)


def write(path, indices=range(SIZE), labels=..., kind=STRUCT, metadata=None, **options):
    columns = {"image": pictures(indices, kind)}
    if labels is ...:
        labels = pa.array(list(indices))
    if labels is not None:
        columns["label"] = labels
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=GROUP, **options)
    return path


def assert_same(batches, others):
    for one, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.labels.dtype == other.labels.dtype
        np.testing.assert_array_equal(one.indices, other.indices)


HOW = {"batch_size": 6, "image_size": (8, 9), "sampler": ab.sampling.BlockShuffle(GROUP, window=2), "seed": 5}


@pytest.mark.parametrize("kind", [STRUCT, pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_the_same_pictures_as_a_folder(tmp_path, kind, compression):
    """Batches are those of the same pictures in a folder, and those of the same file through `sources.items`."""
    write(tmp_path / "x.parquet", kind=kind, compression=compression)
    (tmp_path / "files").mkdir()
    for index in range(SIZE):
        (tmp_path / f"files/{index:02}.png").write_bytes(png(index))
    folder = sources.folder(tmp_path / "files", labels=list(range(SIZE)))
    batches = list(ab.Loader(tmp_path / "x.parquet", **HOW).epochs(2))
    assert_same(batches, list(ab.Loader(folder, **HOW).epochs(2)))
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert_same(batches, list(ab.Loader(sources.items(rows), **HOW).epochs(2)))
    assert batches[0].keys[0] == f"{tmp_path / 'x.parquet'}:{batches[0].indices[0]}"


@pytest.mark.parametrize("pattern", ["train-*.parquet", ".", "**/*.parquet"])
def test_many_files(tmp_path, pattern):
    """A pattern or a folder takes its files in the order of their names, with keys that count each file's rows."""
    write(tmp_path / "train-1.parquet", range(20, 50))
    write(tmp_path / "train-0.parquet", range(20))
    (tmp_path / "README.md").touch()
    source = sources.parquet(tmp_path / pattern)
    assert len(source) == SIZE
    assert (source[0].key, source[-1].key) == tuple(
        str(tmp_path / name) for name in ("train-0.parquet:0", "train-1.parquet:29")
    )
    one = sources.parquet(write(tmp_path / "all.parq"))
    assert_same(list(ab.Loader(source, **HOW)), list(ab.Loader(one, **HOW)))


@pytest.mark.parametrize(
    ("labels", "dtype", "expected", "names"),
    [
        (pa.array([2, 0, 1], pa.int8()), "int64", [2, 0, 1], ()),
        (pa.array([2, 0, 1], pa.uint64()), "int64", [2, 0, 1], ()),
        (pa.array([0.5, 1.5, 2.5], pa.float64()), "float32", [0.5, 1.5, 2.5], ()),
        (pa.array([0.5, 1.5, 2.5], pa.float16()), "float32", [0.5, 1.5, 2.5], ()),
        (pa.array([True, False, True]), "bool", [True, False, True], ()),
        (pa.array(["dog", "ant", "dog"]), "int64", [1, 0, 1], ("ant", "dog")),
        (pa.array(["dog", "ant", "dog"]).dictionary_encode(), "int64", [1, 0, 1], ("ant", "dog")),
        (pa.array([[1, 2], [3, 4], [5, 6]]), "int64", [[1, 2], [3, 4], [5, 6]], ()),
        (pa.array([[0.5], [1.5], [2.5]], pa.list_(pa.float32(), 1)), "float32", [[0.5], [1.5], [2.5]], ()),
        (None, None, None, ()),
    ],
    ids=str,
)
def test_labels(tmp_path, labels, dtype, expected, names):
    """Labels are read at opening, in the dtypes that other sources give them; texts become class indices."""
    source = sources.parquet(write(tmp_path / "x.parquet", range(3), labels))
    batch = next(iter(ab.Loader(source, batch_size=3)))
    assert source.class_names == names
    if dtype is None:
        assert batch.labels is None
    else:
        assert batch.labels.dtype == dtype
        assert batch.labels.tolist() == expected


def test_labels_are_known_beforehand(tmp_path):
    """Classes can be balanced, and labels be left out or be in another column."""
    path = write(tmp_path / "x.parquet", range(10), pa.array([0] * 9 + [1]))
    loader = ab.Loader(path, batch_size=10, sampler=ab.sampling.ClassBalanced(1000))
    assert 0.4 < np.concatenate([batch.labels for batch in loader]).mean() < 0.6
    assert sources.parquet(path, label=None).labels is None
    table = pq.read_table(path).rename_columns(["img", "fine"])
    pq.write_table(table, path)
    assert sources.parquet(path, image="img", label="fine")[9].label == 1


def hugging_face(feature):
    return {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": feature}}})}


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        (hugging_face({"names": ["cat", "dog"], "_type": "ClassLabel"}), ("cat", "dog")),
        (hugging_face({"dtype": "int64", "_type": "Value"}), ()),
        (hugging_face({"names": [1, 2]}), ()),
        ({"huggingface": "[[[["}, ()),
        ({"huggingface": "[" * 100_000}, ()),
        ({"huggingface": "3"}, ()),
        ({"other": "x"}, ()),
    ],
    ids=range(7),
)
def test_class_names_of_hugging_face(tmp_path, metadata, names):
    """`ClassLabel`'s names are taken from the schema's metadata, and metadata that is damaged does no harm."""
    assert sources.parquet(write(tmp_path / "x.parquet", range(3), metadata=metadata)).class_names == names


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_columns_that_are_not_there(tmp_path):
    """A column that is missing or of another kind is a ConfigError with the columns that there are."""
    path = write(tmp_path / "x.parquet", range(3))
    columns = r"its columns are 'image' \(struct<bytes: binary, path: string>\), 'label' \(int64\)"
    for how, words in (
        ({"image": "img"}, r"image='img' is no column of .*x\.parquet'; " + columns),
        ({"label": "y"}, r"label='y' is no column of .*; for no labels write label=None"),
        ({"image": "label"}, r"image='label' is int64 .* must be binary or a struct with binary `bytes`; " + columns),
        ({"label": "image"}, r"label='image' is struct<.*, and must be integers"),
        ({"image": 3}, r"image must be a column's name, got 3"),
        ({"keep": "lots"}, r"keep must be a size above 0"),
    ):
        with pytest.raises(ab.ConfigError, match=words):
            sources.parquet(path, **how)


def test_files_that_cannot_be_used(tmp_path):
    """A file that is missing, none, empty, unlike the others or without a label is a SourceError that names it."""
    (tmp_path / "text.parquet").write_text("no such thing, PAR1")
    os.mkfifo(tmp_path / "pipe.parquet")
    write(tmp_path / "empty.parquet", [])
    (tmp_path / "none").mkdir()
    write(tmp_path / "gaps.parquet", range(3), pa.array([1, None, 2]))
    write(tmp_path / "nan.parquet", range(3), pa.array([1.0, float("nan"), 2]))
    write(tmp_path / "two-0.parquet", range(3))
    write(tmp_path / "two-1.parquet", range(3), pa.array([0.5, 0.5, 0.5]))
    write(tmp_path / "three-0.parquet", range(3))
    write(tmp_path / "three-1.parquet", range(3), None)
    for name, words in (
        ("missing.parquet", "does not exist"),
        ("none-*.parquet", r"no file is called .*none-\*\.parquet'; write"),
        ("none", "holds no file ending in .parquet"),
        ("text.parquet", "text.parquet' cannot be read as Parquet"),
        ("pipe.parquet", "no regular file"),
        ("empty.parquet", "holds no pictures"),
        ("gaps.parquet", "gaps.parquet' has no 'label' in 1 rows, the first of them 1"),
        ("nan.parquet", "the label of row 1, counted over all files, is nan"),
        ("two-*.parquet", r"label='label' is double in .*two-1\.parquet' and int64 in"),
        ("three-*.parquet", r"three-0\.parquet' has a column 'label', and other files have none"),
    ):
        with pytest.raises(ab.SourceError, match=words):
            sources.parquet(tmp_path / name)
    with pytest.raises(ab.SourceError, match=r"for pictures in Parquet write sources\.parquet"):
        ab.Loader(tmp_path, batch_size=2)


def test_without_pyarrow(tmp_path, monkeypatch):
    """A missing pyarrow is an ImportError that says what to install."""
    path = write(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    with pytest.raises(ImportError, match=r"pip install 'asyncbatch\[parquet\]'"):
        sources.parquet(path)


def test_a_row_without_bytes_is_its_samples_error(tmp_path):
    """A row without a picture is one sample's ReadError with its key, and is skipped or replaced alone."""
    rows = [{"bytes": png(index), "path": "x"} for index in range(9)]
    rows[3:5] = [{"bytes": None, "path": "x"}, None]
    table = pa.table({"image": pa.array(rows, STRUCT), "label": list(range(9))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    loader = ab.Loader(tmp_path / "x.parquet", batch_size=2, on_error=ab.Skip(2))
    assert np.concatenate([batch.labels for batch in loader]).tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert [type(error) for error in loader.stats().errors] == [ab.ReadError] * 2
    assert str(loader.stats().errors[0]).startswith(f"{tmp_path / 'x.parquet'}:3 (sample 3): the row holds no bytes")
    loader = ab.Loader(tmp_path / "x.parquet", batch_size=2, on_error=ab.Replace(1.0))
    for batch in loader:
        np.testing.assert_array_equal(batch.labels, batch.indices)
    assert loader.stats().replaced == 2


def test_a_damaged_row_group(tmp_path):
    """What cannot be read of a file is the error of the samples that are in it, after the batches before."""
    path = write(tmp_path / "x.parquet", compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    with path.open("r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(bytes(column.total_compressed_size))
    loader = ab.Loader(path, batch_size=GROUP, on_error=ab.Skip(GROUP))
    assert [batch.labels[0] for batch in loader] == [0, *range(2 * GROUP, SIZE, GROUP)]
    assert {type(error) for error in loader.stats().errors} == {ab.ReadError}


def test_a_file_that_was_written_to(tmp_path):
    """A file that is not what it was at opening is never read by its old footer."""
    loader = ab.Loader(write(tmp_path / "x.parquet"), batch_size=5)
    write(tmp_path / "x.parquet", range(20))
    with pytest.raises(ab.SampleChanged, match="written to since it was opened"):
        next(iter(loader))


# -- what the loader promises ------------------------------------------------------------------------------------------


def test_resumed_bit_for_bit(tmp_path):
    """A state goes on with the same batches, in another loader of the moved file."""
    path = write(tmp_path / "x.parquet")
    whole = list(ab.Loader(path, **HOW).epochs(2))
    first = ab.Loader(path, **HOW)
    iterator = first.epochs(2)
    taken = [next(iterator) for _ in range(4)]
    state = first.state_dict()
    first.close()
    (tmp_path / "moved").mkdir()
    second = ab.Loader(path.rename(tmp_path / "moved/x.parquet"), **HOW)
    second.load_state_dict(state)
    assert_same([*taken, *second.epochs(2)], whole)


def test_the_fingerprint(tmp_path):
    """It changes with rows, labels, and names of files and classes."""
    path = tmp_path / "x.parquet"
    prints = [
        sources.parquet(write(path, **how)).fingerprint
        for how in (
            {},
            {"indices": range(20)},
            {"labels": pa.array([1] * SIZE)},
            {"labels": pa.array(["a"] * SIZE)},
            {"labels": None},
        )
    ]
    write(tmp_path / "y.parquet")
    prints.append(sources.parquet(tmp_path / "y.parquet").fingerprint)
    assert len(set(prints)) == len(prints)
    assert sources.parquet(tmp_path / "y.parquet", keep="1MB").fingerprint == prints[-1]


def test_a_source_is_sent_to_another_process(tmp_path):
    """It can be pickled, and serves the same rows."""
    source = sources.parquet(write(tmp_path / "x.parquet"))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    assert again.fingerprint == source.fingerprint
    assert again[9] == source[9]
    assert list(again.load_chunk(1)) == [png(index) for index in range(7, 14)]


def test_other_ways_of_use(tmp_path):
    """A reader has nothing to read; shards share the rows; `async for` gives the same batches."""
    path = write(tmp_path / "x.parquet")
    with pytest.raises(ab.ConfigError, match="leave out reader"):
        ab.Loader(path, batch_size=2, reader=ab.FileReader())
    seen = [batch.labels for rank in (0, 1) for batch in ab.Loader(path, **HOW | {"batch_size": 5, "shard": (rank, 2)})]
    assert sorted(np.concatenate(seen).tolist()) == list(range(SIZE))

    loader = ab.Loader(path, **HOW)

    async def drained():
        return [batch async for batch in loader]

    assert_same(asyncio.run(drained()), list(ab.Loader(path, **HOW)))


# -- chunks ------------------------------------------------------------------------------------------------------------


def rows(chunk):
    return [index.to_bytes(8, "little") for index in range(chunk * 10, chunk * 10 + 10)]


class Chunks:
    """A source of chunks of ten, each 100 bytes in memory; `load` may fail or wait."""

    fingerprint = "chunks"

    def __init__(self, size=100, keep=300, before=lambda chunk: None):
        self.size, self.keep, self.before = size, keep, before
        self.loaded = []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return ChunkedSample(str(index), index, chunk=index // 10, row=index % 10)

    def chunk_size(self, chunk):
        return 100

    def load_chunk(self, chunk):
        self.loaded.append(chunk)
        self.before(chunk)
        return rows(chunk)


def labels_of(loader):
    batches = list(loader)
    for batch in batches:
        np.testing.assert_array_equal(batch.images[:, 0], batch.labels)
    return np.concatenate([batch.labels for batch in batches]).tolist()


@pytest.mark.parametrize("sampler", [None, ab.sampling.BlockShuffle(10, window=3)])
def test_each_chunk_is_read_once(sampler):
    """In the source's order, and mixed by blocks that fit in `keep`, no chunk is read again."""
    source = Chunks()
    seen = labels_of(ab.Loader(source, batch_size=7, decoder=number, sampler=sampler))
    assert sorted(seen) == list(range(100))
    assert sorted(source.loaded) == list(range(10))


def test_a_chunk_larger_than_all_room():
    """It passes when nothing else is held, and a full shuffle gets everything at whatever cost."""
    source = Chunks(size=3000, keep=50)
    assert sorted(labels_of(ab.Loader(source, batch_size=7, decoder=number, shuffle=True))) == list(range(3000))
    assert len(source.loaded) > 300


async def test_chunks_are_bounded():
    """No more are read or kept than fit, whoever waits; one that is not used any more makes room."""
    gates = [threading.Event() for _ in range(10)]
    source = Chunks(before=lambda chunk: gates[chunk].wait(30) and None)
    async with ChunkReader(source, 300).open() as reader:
        reads = [asyncio.create_task(reader.read(source[index])) for index in range(100)]
        await asyncio.to_thread(wait_until, lambda: len(source.loaded) == 3)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sorted(source.loaded) == [0, 1, 2]
        gates[1].set()
        assert [await read for read in reads[10:20]] == rows(1)
        await asyncio.to_thread(wait_until, lambda: len(source.loaded) == 4)
        assert sorted(source.loaded) == [0, 1, 2, 3]
        for gate in gates:
            gate.set()
        assert [await read for read in reads] == [row for chunk in range(10) for row in rows(chunk)]


async def test_a_chunk_that_failed_is_tried_again_by_the_next():
    """An error is that of the samples that waited; who asks later has the chunk read again."""
    failures = [OSError(5, "gone")]

    def fail(chunk):
        if failures:
            raise failures.pop()

    source = Chunks(before=fail)
    async with ChunkReader(source, 300).open() as reader:
        first = await asyncio.gather(*(reader.read(source[index]) for index in (0, 1)), return_exceptions=True)
        assert [type(error) for error in first] == [OSError] * 2
        assert await reader.read(source[2]) == rows(0)[2]


def test_closing_does_not_wait_for_a_chunk():
    """A chunk that hangs is left to itself when the loader is closed, and nothing is read afterwards."""
    begun, go_on = threading.Event(), threading.Event()

    def hang(chunk):
        if chunk:
            begun.set()
            go_on.wait(30)

    source = Chunks(before=hang, keep=10**6)
    loader = ab.Loader(source, batch_size=10, decoder=number)
    next(iter(loader))
    begun.wait(30)
    loader.close()
    loaded = len(source.loaded)
    go_on.set()
    assert len(source.loaded) == loaded
