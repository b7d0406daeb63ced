"""What a storage that is away does to an epoch in process: where to go on, and what the log says meanwhile."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

import asyncbatch as ab

COUNT, BATCH = 60, 10


def row(data):
    return np.frombuffer(data, np.uint8).astype(np.int64)


@pytest.fixture
def files(tmp_path):
    """Files that hold their own number."""
    for index in range(COUNT):
        (tmp_path / f"{index:02}").write_bytes(bytes([index]))
    (tmp_path / "list.txt").write_text("".join(f"{index:02} {index}\n" for index in range(COUNT)))
    return tmp_path


class Mount:
    """Stands before `os.open`: while `gone`, every file answers ENOTCONN, as below a FUSE mount without its daemon."""

    def __init__(self, folder):
        self._folder = str(folder)
        self._open = os.open
        self.gone = False
        self.refused = 0

    def open(self, path, *args, **kwargs):
        if self.gone and str(path).startswith(self._folder):
            self.refused += 1
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._open(path, *args, **kwargs)


@pytest.fixture
def mount(files, monkeypatch):
    mount = Mount(files)
    monkeypatch.setattr(os, "open", mount.open)
    return mount


def loader_of(files, *, read_ahead=1, **reader):
    """Return a loader that reads hardly ahead, so that what happens after a batch happens in mid-epoch."""
    return ab.Loader(
        files / "list.txt", batch_size=BATCH, decoder=row, shuffle=True, seed=5, prefetch=1, read_ahead=read_ahead,
        reader=ab.FileReader(concurrency=1, **reader),
    )  # fmt: skip


def test_an_epoch_goes_on_where_the_storage_broke_it(files, mount):
    """As the message says: the loader's own state loaded again gives the rest of the epoch, each sample once."""
    with loader_of(files, grace=0.1) as loader:
        seen = []
        with pytest.raises(ab.StorageUnresponsive) as caught:
            for images, _ in loader:
                seen += images[:, 0].tolist()
                mount.gone = True
        assert 0 < len(seen) < COUNT
        assert mount.refused > 0
        assert "write loader.load_state_dict(loader.state_dict()) and iterate again" in str(caught.value)
        mount.gone = False
        loader.load_state_dict(loader.state_dict())
        for batch in loader:
            assert batch.epoch == 0
            seen += batch.images[:, 0].tolist()
    with loader_of(files) as whole:
        assert seen == [number for images, _ in whole for number in images[:, 0].tolist()]
    assert sorted(seen) == list(range(COUNT))
