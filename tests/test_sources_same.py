"""One set of pictures in every form that a source takes: the same batches for one seed and plan."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from coloured import write_coloured
from objectserver import options, served
from tars import write_tars

import asyncbatch as ab
from asyncbatch.sampling import BlockShuffle

COUNT = 40
DECODER = ab.ImageDecoder(
    (24, 24), transform=[ab.Resize((28, 28)), ab.RandomResizedCrop(24), ab.RandomHorizontalFlip()]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


@pytest.fixture(scope="module")
def bucket(folder):
    """A server of objects; None where there cannot be one."""
    if find_spec("obstore") is None or find_spec("moto") is None:
        yield None
        return
    with served(folder) as server:
        yield server


def as_folder(folder, tmp_path, _):
    return folder, {}


def as_tar(folder, tmp_path, _):
    write_tars(folder, tmp_path)
    return str(tmp_path / "train-{000..002}.tar"), {}


def as_parquet(folder, tmp_path, _):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'asyncbatch[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'asyncbatch[parquet]'")
    source = ab.sources.folder(folder)
    rows = [{"bytes": open_bytes(source[index]), "path": source[index].key} for index in range(COUNT)]
    table = pyarrow.table({"image": rows, "label": [int(source[index].label) for index in range(COUNT)]})
    parquet.write_table(table, tmp_path / "train.parquet", row_group_size=7)
    return str(tmp_path / "train.parquet"), {}


def as_objects(folder, tmp_path, bucket):
    if bucket is None:
        pytest.skip("pip install 'asyncbatch[objects]' 'moto[server]'")
    return ab.sources.objects("s3://bucket/train", options=options(bucket)), {}


def as_items(folder, tmp_path, _):
    source = ab.sources.folder(folder)
    pairs = [(open_bytes(source[index]), int(source[index].label)) for index in range(COUNT)]
    return ab.sources.items(pairs), {}


def as_cached(folder, tmp_path, _):
    return folder, {"cache": filled(folder, tmp_path / "cache")}


def as_decoded(folder, tmp_path, _):
    return folder, {"cache": filled(folder, ab.Cache(tmp_path / "cache", what="decoded"))}


def as_remembered(folder, tmp_path, _):
    return folder, {"cache": ab.Cache("memory", limit="10MB")}


def filled(folder, cache):
    with ab.Loader(folder, batch_size=8, decoder=DECODER, cache=cache) as loader:
        list(loader)
    return cache


def open_bytes(sample):
    with open(sample.path, "rb") as file:  # noqa: PTH123 - a text
        return file.read()


FORMS = [as_folder, as_tar, as_parquet, as_objects, as_items, as_cached, as_decoded, as_remembered]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.removeprefix("as_"))
def test_the_same_batches_whatever_the_form(folder, tmp_path, form, bucket):
    """Pictures, labels and indices, over two shuffled epochs with augmentation."""
    plan = {"batch_size": 8, "decoder": DECODER, "sampler": BlockShuffle(4, window=3), "seed": 11}
    with ab.Loader(folder, **plan) as loader:
        expected = list(loader.epochs(2))
    source, settings = form(folder, tmp_path, bucket)
    with ab.Loader(source, **plan, **settings) as loader:
        batches = list(loader.epochs(2))
    assert len(batches) == len(expected) == 10
    for batch, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch.images, other.images)
        np.testing.assert_array_equal(batch.labels, other.labels)
        np.testing.assert_array_equal(batch.indices, other.indices)
        assert batch.labels.dtype == other.labels.dtype == np.int64
