"""The storage dies or falls silent as a whole, and comes back or does not."""

from __future__ import annotations

import threading
import time

import pytest
from begun import COUNT, ends_in_one_error, take
from begun import begin as begin_anywhere
from conftest import Footprint
from numbered import make_loader, name_of, read_all

import asyncbatch as ab

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)

SLOW = {"latency": {"open": 0.02}}  # an epoch takes its time: what happens after a batch happens in mid-epoch


def begin(fs, **reader):
    """Start an epoch of which some is still to come."""
    begun = begin_anywhere(fs, **reader)
    assert 0 < fs.count("open") < COUNT
    return begun


def test_a_death_is_one_error_after_the_grace_period(faultfs):
    """A daemon killed in mid-epoch is one clear error, after the batches that were read, and nothing is left."""
    fs = faultfs(COUNT, **SLOW)
    before = Footprint()
    loader, batches, indices = begin(fs, grace=1.0)
    fs.kill()
    error = ends_in_one_error(loader, batches, indices)
    assert error.__cause__ is None or not isinstance(error.__cause__, BaseExceptionGroup)
    # The pipes to the daemon went with it.
    before.descriptors = [target for target in before.descriptors if not target.startswith("pipe:")]
    after = Footprint()
    assert after.threads == before.threads
    assert [target for target in after.descriptors if not target.startswith("pipe:")] == before.descriptors


@pytest.mark.parametrize("way", ["at once", "after a while as an empty folder"])
def test_a_mount_that_comes_back_loses_nothing(faultfs, way):
    """A daemon killed in mid-epoch and mounted again within the grace period costs time, and no sample."""
    fs = faultfs(COUNT, **SLOW)
    loader, batches, indices = begin(fs, grace=30.0)
    rest = threading.Thread(target=take, args=(batches, indices))
    fs.kill()
    rest.start()
    fs.unmount()
    if way != "at once":
        rest.join(0.5)  # meanwhile every file is missing: ENOENT
        assert rest.is_alive()
    fs.mount(**SLOW)
    rest.join()
    stats = loader.stats()
    loader.close()
    assert indices == list(range(COUNT))
    assert (stats.skipped, stats.timeouts) == (0, 0)
    assert fs.count("open") > 0  # of the second daemon


def test_a_mount_that_never_was_is_said_sample_by_sample(faultfs):
    """Where nothing was ever read from, an empty folder is one of missing files, and not a storage to wait for."""
    fs = faultfs(COUNT)
    fs.kill()
    fs.unmount()
    start = time.monotonic()
    with (
        make_loader(fs.path, COUNT, reader={"grace": 60.0}) as loader,
        pytest.raises(ab.ReadError, match="No such file"),
    ):
        read_all(loader)
    assert time.monotonic() - start < 20


def test_a_single_missing_file_is_no_death(faultfs):
    """A file that is missing while its neighbours are there is an error of its own, at once."""
    fs = faultfs(COUNT)
    (fs.source / name_of(150)).unlink()
    with make_loader(fs.path, COUNT, reader={"grace": 60.0}, on_error=ab.Skip(1)) as loader:
        indices, (error,) = read_all(loader)
    assert indices == [index for index in range(COUNT) if index != 150]
    assert (error.index, error.attempts) == (150, 1)


def test_silence_that_ends_in_time_loses_nothing(faultfs):
    """All reads wait longer than their deadline, but the storage speaks again within the grace period: no time-out."""
    fs = faultfs(COUNT, **SLOW)
    loader, batches, indices = begin(fs, timeout=0.5, grace=30.0)
    fs.stop()
    rest = threading.Thread(target=take, args=(batches, indices))
    rest.start()
    rest.join(1.5)  # three deadlines
    assert rest.is_alive()
    fs.resume()
    rest.join()
    stats = loader.stats()
    loader.close()
    assert indices == list(range(COUNT))
    assert (stats.timeouts, stats.lost_threads, stats.retries, stats.skipped) == (0, 0, 0, 0)


def test_silence_that_stays_is_one_error(faultfs):
    """Storage that answers nobody any more is one error when the grace period ends; its threads end when it speaks."""
    fs = faultfs(COUNT, **SLOW)
    before = Footprint()
    loader, batches, indices = begin(fs, timeout=0.3, grace=1.0)
    fs.stop()
    ends_in_one_error(loader, batches, indices)
    fs.resume()
    before.assert_same_soon(5.0)


def test_a_failed_epoch_can_be_begun_anew(faultfs):
    """After the storage died and came back, the same loader reads the next epoch whole."""
    fs = faultfs(COUNT, **SLOW)
    loader, batches, indices = begin(fs, grace=0.5)
    fs.kill()
    with pytest.raises(ab.StorageUnresponsive):
        take(batches, indices)
    fs.unmount()
    fs.mount()
    with loader:
        assert read_all(loader) == (list(range(COUNT)), [])
