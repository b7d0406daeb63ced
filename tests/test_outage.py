"""What a storage that is away does to an epoch in process: where to go on, and what the log says meanwhile."""

from __future__ import annotations

import errno
import logging
import os
import threading

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
    """Stands before `os.open`: while `gone`, every file answers ENOTCONN, as below a FUSE mount without its daemon.

    While `speaks` is clear, files are not answered at all.
    """

    def __init__(self, folder):
        self._folder = str(folder)
        self._open = os.open
        self.gone = False
        self.speaks = threading.Event()
        self.speaks.set()
        self.refused = self.kept_waiting = 0

    def open(self, path, *args, **kwargs):
        if self.gone and str(path).startswith(self._folder):
            self.refused += 1
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if str(path).startswith(self._folder) and not self.speaks.is_set():
            self.kept_waiting += 1
            self.speaks.wait()
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


class WhenLogged(logging.Handler):
    """Calls a function with the level of what the loader logs: what it does, it does after that was logged."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def emit(self, record):
        self._function(record.levelname)


@pytest.fixture
def when_logged(caplog):
    caplog.set_level(logging.INFO, "asyncbatch")
    logger, handlers = logging.getLogger("asyncbatch"), []

    def install(function):
        handlers.append(WhenLogged(function))
        logger.addHandler(handlers[-1])

    yield install
    for handler in handlers:
        logger.removeHandler(handler)


def logged(caplog):
    return [(record.name, record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("times", [1, 2])
def test_a_dead_mount_is_logged_once_an_outage(files, mount, caplog, when_logged, times):
    """A warning with the file, the error and the patience when the probing begins, and a line when it is back."""
    outages = iter(range(1, times))

    def turn(level):
        mount.gone = level == "INFO" and next(outages, None) is not None

    when_logged(turn)
    with loader_of(files, grace=30.0) as loader:
        seen = []
        for step, (images, _) in enumerate(loader):
            seen += images[:, 0].tolist()
            if step == 0:
                mount.gone = True
    assert sorted(seen) == list(range(COUNT))
    assert mount.refused >= times
    lines = logged(caplog)
    assert [(name, level) for name, level, _ in lines] == [("asyncbatch", "WARNING"), ("asyncbatch", "INFO")] * times
    for _, level, text in lines:
        if level == "WARNING":
            assert text.startswith(f"the storage does not answer: {files}/")
            assert text.endswith(f": {os.strerror(errno.ENOTCONN)}; waiting up to 30 s for it")
        else:
            assert text.startswith("the storage answers again, after ")


def test_silence_is_logged_once(files, mount, caplog, when_logged):
    """A warning within the time-out while nobody is answered, and a line when the storage speaks again."""
    when_logged(lambda _: mount.speaks.set())
    with loader_of(files, timeout=0.8, grace=30.0) as loader:
        seen = []
        for step, (images, _) in enumerate(loader):
            seen += images[:, 0].tolist()
            if step == 0:
                mount.speaks.clear()
        assert loader.stats().timeouts == 0
    assert sorted(seen) == list(range(COUNT))
    assert mount.kept_waiting > 0
    (_, warning, silent), (_, info, again) = logged(caplog)
    assert (warning, info) == ("WARNING", "INFO")
    assert silent.startswith("the storage has not answered for 0.")
    assert f" s, asked for {files}/" in silent
    assert silent.endswith("; waiting up to 30 s for it")
    assert again.startswith("the storage answers again, after ")


def test_a_single_file_that_hangs_is_no_silence(files, monkeypatch, caplog):
    """Where the scout is answered, one file is late and not the storage: nothing is logged of an outage."""
    caplog.set_level(logging.INFO, "asyncbatch")
    gate, real = threading.Event(), os.open

    def hanging(path, *args, **kwargs):
        if str(path) == str(files / "59"):
            gate.wait()
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", hanging)
    reader = ab.FileReader(timeout=0.8, grace=30.0)
    with ab.Loader(files / "list.txt", batch_size=BATCH, decoder=row, reader=reader, on_error=ab.Skip(1)) as loader:
        assert sum(len(images) for images, _ in loader) == COUNT - 1
        assert loader.stats().timeouts == 1
        gate.set()
    assert [text for _, _, text in logged(caplog) if "skipped" not in text] == []
