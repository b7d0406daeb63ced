"""The mounts that users have, sshfs and rclone, slow, stalled, cut and mounted again."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import cache

import pytest
from begun import COUNT, begin, ends_in_one_error, take
from conftest import Footprint
from numbered import make_loader, read_all, write_files
from realmounts import webdav_mount, webdav_server, why_no_rclone

from bench.sftp_proxy import sshfs_mounted, why_no_sshfs

pytestmark = pytest.mark.timeout(60)

DELAY_MS = 3.0  # either way, so that an epoch takes its time: what happens after a batch happens in mid-epoch

_why_no_sshfs, _why_no_rclone = cache(why_no_sshfs), cache(why_no_rclone)


@pytest.fixture
def source(tmp_path):
    """A folder of `COUNT` numbered files."""
    folder = tmp_path / "source"
    folder.mkdir()
    write_files(folder, COUNT)
    return folder


@pytest.fixture
def sshfs(source):
    """A function that mounts the source by sshfs, with these options of its, and returns the `Sshfs`."""
    if reason := _why_no_sshfs():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(sshfs_mounted(source, DELAY_MS, options))


@pytest.mark.parametrize("concurrency", [4, 32, "auto"])
def test_sshfs_delivers_all_in_order(sshfs, concurrency):
    """Over a wire of some milliseconds, all files come whole and in order, whatever the concurrency."""
    fs = sshfs()
    with make_loader(fs.path, COUNT, reader={"concurrency": concurrency, "timeout": 10.0, "grace": 20.0}) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
        stats = loader.stats()
    assert (stats.timeouts, stats.retries, stats.skipped) == (0, 0, 0)
    counts = fs.tell()
    assert counts["connections"] == 1
    assert counts["bytes"] >= counts["delayed"] > COUNT * 64


def test_a_stall_shorter_than_the_grace_period_loses_nothing(sshfs):
    """A wire on which nothing arrives for three deadlines, and then all of it: no time-out, no retry, no loss."""
    fs = sshfs()
    loader, batches, indices = begin(fs, timeout=0.5, grace=30.0)
    fs.tell("stall")
    rest = threading.Thread(target=take, args=(batches, indices))
    rest.start()
    fs.wait_for("stalled")
    rest.join(1.5)  # three deadlines
    assert rest.is_alive()
    assert len(indices) < COUNT
    fs.tell("release")
    rest.join()
    stats = loader.stats()
    loader.close()
    assert indices == list(range(COUNT))
    assert (stats.timeouts, stats.lost_threads, stats.retries, stats.skipped) == (0, 0, 0, 0)


def test_a_stall_that_stays_is_one_error(sshfs):
    """A wire on which nothing arrives any more is one error after the grace period; its threads end when it flows."""
    fs = sshfs()
    before = Footprint()
    loader, batches, indices = begin(fs, timeout=0.3, grace=1.0)
    fs.tell("stall")
    ends_in_one_error(loader, batches, indices)
    assert fs.tell("release")["stalled"] > 0
    before.assert_same_soon(5.0)


@pytest.mark.parametrize("way", ["its connection is cut", "it is killed"])
def test_a_dead_sshfs_is_one_error_after_the_grace_period(sshfs, way):
    """An sshfs that is gone, with its mount (cut) or without (killed), is one clear error, after what was read."""
    fs = sshfs()
    before = Footprint()
    loader, batches, indices = begin(fs, grace=1.0)
    end(fs, way)
    error = ends_in_one_error(loader, batches, indices)
    assert error.__cause__ is None or not isinstance(error.__cause__, BaseExceptionGroup)
    before.assert_same_soon(5.0)


@pytest.mark.parametrize("way", ["its connection is cut", "it is killed"])
def test_a_dead_sshfs_that_is_mounted_again_loses_nothing(sshfs, way):
    """An sshfs that is gone in mid-epoch, and mounted again within the grace period, costs time and no sample."""
    fs = sshfs()
    loader, batches, indices = begin(fs, grace=30.0)
    end(fs, way)
    rest = threading.Thread(target=take, args=(batches, indices))
    rest.start()
    rest.join(0.5)
    assert rest.is_alive()
    assert len(indices) < COUNT
    fs.unmount()
    fs.mount()
    rest.join()
    stats = loader.stats()
    loader.close()
    assert indices == list(range(COUNT))
    assert (stats.skipped, stats.timeouts) == (0, 0)
    assert fs.tell()["connections"] >= 2  # one that dies may connect once more


def end(fs, way):
    """Let sshfs die, and wait until it has."""
    if way == "it is killed":
        fs.kill()
        return
    assert fs.tell("cut")["cuts"] == 1
    fs.wait()


def test_sshfs_that_reconnects_loses_nothing(sshfs):
    """With sshfs's own `reconnect`, a connection that is cut in mid-epoch, three times, costs no sample.

    A read that is cut ends there as a file does, with no bytes and no error; the kernel then shows an empty file for
    some seconds.
    """
    fs = sshfs("reconnect")
    fs.tell("delay 0.01")  # there must be something to read yet after each cut
    loader, batches, indices = begin(fs, grace=30.0, retries=8)
    with loader:
        for times in range(1, 4):
            assert fs.tell("cut")["cuts"] == times
            fs.wait_for("connections", times + 1)  # the next read makes it anew
            batch = next(batches)
            assert batch.images[:, 0].tolist() == batch.indices.tolist()
            indices += batch.indices.tolist()
        fs.tell("delay 0")
        take(batches, indices)
        stats = loader.stats()
    assert indices == list(range(COUNT))
    assert (stats.skipped, stats.timeouts) == (0, 0)


def test_rclone_delivers_all_in_order(source, tmp_path):
    """From an `rclone mount` of a WebDAV server, all files come whole and in order, in two epochs."""
    if reason := _why_no_rclone():
        pytest.skip(reason)
    path = tmp_path / "mount"
    path.mkdir()
    with (
        webdav_server(source, tmp_path) as url,
        webdav_mount(url, path, tmp_path),
        make_loader(path, COUNT, reader={"timeout": 10.0, "grace": 20.0}) as loader,
    ):
        assert path.stat().st_dev != tmp_path.stat().st_dev
        assert read_all(loader) == (list(range(COUNT)), [])
        assert read_all(loader) == (list(range(COUNT)), [])
        stats = loader.stats()
    assert (stats.timeouts, stats.retries, stats.skipped) == (0, 0, 0)
